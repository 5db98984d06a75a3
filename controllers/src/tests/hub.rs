//! The operator's side of the hub, against a mock of the hub.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::paths;
use serde_json::{Value, json};
use uuid::Uuid;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::support::rule;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::validate;

fn plan(name: &str, number: u128) -> domain::Plan {
    validate::rule(rule(name, number, &json!({})).0.as_ref().unwrap()).unwrap()
}

async fn hub() -> (MockServer, Hub) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = MockServer::start().await;
    let config = protocol::ClientConfig {
        url: server.uri(),
        ca: None,
        server_name: None,
        token: protocol::TokenSource::Fixed("token".to_owned()),
    };
    let hub = Hub::new(protocol::Client::new(config).unwrap(), Metrics::new());
    (server, hub)
}

#[tokio::test]
async fn a_plan_that_the_hub_refuses_is_remembered_and_stops_no_other() {
    let (server, hub) = hub().await;
    Mock::given(path(paths::PLANS))
        .respond_with(|request: &Request| {
            if String::from_utf8_lossy(&request.body).contains("\"bad\"") {
                let problem = json!({"reason": "Invalid", "message": "no such thing"});
                ResponseTemplate::new(400).set_body_json(problem)
            } else {
                ResponseTemplate::new(200)
            }
        })
        .mount(&server)
        .await;
    hub.greet(Uuid::from_u128(1), HashMap::new());
    let plans = [plan("good", 1), plan("bad", 2), plan("fine", 3)];
    hub.ensure(&plans).await.unwrap();
    assert!(hub.view(&plans[0]).holds && hub.view(&plans[2]).holds);
    assert!(hub.view(&plans[1]).refused.unwrap().contains("no such thing"));
    let before = server.received_requests().await.unwrap().len();
    hub.ensure(&plans).await.unwrap();
    assert_eq!(server.received_requests().await.unwrap().len(), before, "the refused one is not sent again");
}

#[tokio::test]
async fn only_what_differs_from_what_the_hub_holds_is_sent() {
    let (server, hub) = hub().await;
    Mock::given(path(paths::PLANS)).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let (held, newer) = (plan("held", 1), plan("newer", 2));
    let known = [(held.uid, (held.revision(), 1)), (newer.uid, (newer.revision(), 0))];
    hub.greet(Uuid::from_u128(1), known.into());
    hub.ensure(&[held, newer]).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 1);
    let body: Value = serde_json::from_slice(&requests[0].body).unwrap();
    let names: Vec<&Value> = body["plans"].as_array().unwrap().iter().map(|plan| &plan["name"]).collect();
    assert_eq!(names, ["newer"]);
}

#[tokio::test]
async fn a_hub_with_another_ledger_is_compared_with_from_the_beginning() {
    let (server, hub) = hub().await;
    let held = plan("held", 1);
    let (old, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let entry = json!([held.revision(), held.generation]);
    let greetings = AtomicUsize::new(0);
    let uid = held.uid.to_string();
    Mock::given(method("GET"))
        .and(path(paths::REVISIONS))
        .respond_with(move |_: &Request| {
            let first = greetings.fetch_add(1, Ordering::SeqCst) == 0;
            let objects = if first { json!({uid.clone(): entry}) } else { json!({}) };
            let ledger = if first { old } else { new };
            ResponseTemplate::new(200).set_body_json(json!({"ledger": ledger, "objects": objects}))
        })
        .mount(&server)
        .await;
    Mock::given(path(paths::FEED))
        .respond_with(
            ResponseTemplate::new(200)
                .set_body_json(json!({"ledger": new, "version": 5, "objects": []}))
                .set_delay(Duration::from_millis(50)),
        )
        .mount(&server)
        .await;
    let hub = Arc::new(hub);
    let holds: Arc<Mutex<Vec<bool>>> = Arc::default();
    let (heard, view) = (Arc::clone(&holds), Arc::clone(&hub));
    let follower = Arc::clone(&hub);
    let following = tokio::spawn(async move {
        follower.follow(|_| (), move || heard.lock().unwrap().push(view.view(&held).holds)).await;
    });
    while holds.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    following.abort();
    assert_eq!(*holds.lock().unwrap(), [true, false], "the new ledger lacks the plan, so it is sent again");
}
