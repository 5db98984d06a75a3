//! The API's routes, grouped by caller. Each group passes the middleware's checks; other paths do not exist.

mod consume;
mod deliver;
mod operator;
mod people;
mod remind;
mod reports;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, get, post, put};
use protocol::paths;

use crate::app::App;
use crate::middleware::{RouteGroup, admit, observe};
use crate::refusal::Refusal;

pub(crate) fn router(app: App) -> Router {
    let operator = Router::new()
        .route(paths::PLANS, only(post(operator::put_plans)))
        .route(paths::REVISIONS, only(get(operator::revisions)))
        .route(paths::LIVE, only(put(operator::put_live)))
        .route(paths::FEED, only(get(operator::feed)))
        .route(paths::REQUESTS, only(post(operator::request)));
    let workers = Router::new()
        .route(paths::SOURCE_PLAN, only(get(consume::plan)))
        .route(paths::POSITIONS, only(post(consume::positions)))
        .route(paths::COMMITS, only(post(consume::commit)))
        .route(paths::CHANNELS_PLAN, only(get(deliver::plan)))
        .route(paths::CLAIM, only(post(deliver::claim)))
        .route(paths::ALIVE, only(post(deliver::alive)))
        .route(paths::OUTCOMES, only(post(deliver::outcomes)))
        .route(paths::SCHEDULE, only(get(remind::schedule)))
        .route(paths::REMINDERS, only(post(remind::reminders)))
        .route(paths::REPORTS, only(put(reports::put)));
    let readers = Router::new()
        .route(paths::NOTIFICATIONS, only(get(people::notifications)))
        .route(paths::NOTIFICATION, only(get(people::notification)))
        .route(paths::DEAD_LETTERS, only(get(people::dead_letters)));
    let gated =
        |routes: Router<App>, group| routes.route_layer(from_fn_with_state((app.clone(), group), admit));
    Router::new()
        .merge(gated(operator, RouteGroup::Operator))
        .merge(gated(workers, RouteGroup::Workers))
        .merge(gated(readers, RouteGroup::Readers))
        .fallback(|| async { Refusal::not_found("there is no such path in this version of the hub") })
        // Our own extractor bounds bodies, by path.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(app.clone(), observe))
        .layer(from_fn(no_store))
        .with_state(app)
}

/// Answers other methods with a `Problem`, behind the same checks.
fn only(route: MethodRouter<App>) -> MethodRouter<App> {
    route.fallback(|| async { Refusal::method_not_allowed() })
}

/// Forbids caches to store any answer.
async fn no_store(request: axum::extract::Request, next: axum::middleware::Next) -> axum::response::Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    response
}
