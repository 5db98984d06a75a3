use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::*;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

const PEOPLE: &str = "system:serviceaccount:belfry-system:belfry-people";

/// Knows tokens by their text; can be switched off.
#[derive(Default)]
struct Book {
    hub: BTreeMap<String, String>,
    cluster: BTreeMap<String, String>,
    readers: Vec<(String, String)>,
    down: AtomicBool,
    asked: AtomicUsize,
}

impl Book {
    fn answer<T>(&self, answer: T) -> Result<T, ReviewError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.down.load(Ordering::Relaxed) { Err(ReviewError("down".to_owned())) } else { Ok(answer) }
    }
}

impl Reviewer for Book {
    fn token<'a>(
        &'a self,
        token: &'a str,
        audience: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<Identity>, ReviewError>> {
        let book = if audience.is_some() { &self.hub } else { &self.cluster };
        let who = book.get(token).map(|name| Identity { username: name.clone(), ..Identity::default() });
        Box::pin(async move { self.answer(who) })
    }

    fn namespace<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<NamespaceIdentity>, ReviewError>> {
        Box::pin(async { Ok(None) })
    }

    fn may_read<'a>(
        &'a self,
        who: &'a Identity,
        namespace: &'a str,
    ) -> BoxFuture<'a, Result<bool, ReviewError>> {
        let may = self.readers.contains(&(who.username.clone(), namespace.to_owned()));
        Box::pin(async move { self.answer(may) })
    }
}

fn token(name: &str, audience: &str, exp: i64) -> String {
    let payload = serde_json::json!({"exp": exp, "aud": [audience], "sub": name}).to_string();
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
}

/// For the hub.
fn jwt(exp: i64) -> String {
    token("x", "belfry-hub", exp)
}

/// Somebody's token for the hub, or for the API server, that ends much later.
fn of_hub(name: &str) -> String {
    token(name, "belfry-hub", 4_102_444_800)
}

fn of_cluster(name: &str) -> String {
    token(name, "https://kubernetes.default.svc", 4_102_444_800)
}

fn auth(book: Book) -> (Auth, Arc<Book>) {
    made(book, false)
}

fn made(book: Book, accept_api_server_tokens: bool) -> (Auth, Arc<Book>) {
    let accounts = Accounts {
        audience: "belfry-hub".to_owned(),
        operator: "system:serviceaccount:belfry-system:belfry-operator".to_owned(),
        worker: "belfry-worker".to_owned(),
        people: Some(PEOPLE.to_owned()),
        accept_api_server_tokens,
    };
    let book = Arc::new(book);
    (Auth::new(accounts, book.clone(), Arc::new(Metrics::new())), book)
}

async fn status(auth: &Auth, token: &str, need: Need, now: Timestamp) -> u16 {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header");
    headers.insert(header::AUTHORIZATION, value);
    match auth.check(&headers, &need, None, now).await {
        Ok(_) => StatusCode::OK.as_u16(),
        Err(denied) => denied.refusal.status.as_u16(),
    }
}

fn worker_of(ns: &str) -> Need {
    Need::Worker(ns.to_owned())
}

fn reader_of(ns: &str) -> Need {
    Need::Reader(ns.to_owned())
}

#[tokio::test]
async fn a_worker_may_touch_its_own_namespace_and_nothing_else() {
    let mut book = Book::default();
    let w = of_hub("w");
    book.hub.insert(w.clone(), "system:serviceaccount:a:belfry-worker".to_owned());
    let (auth, _) = auth(book);
    assert_eq!(status(&auth, &w, worker_of("a"), NOW).await, 200);
    assert_eq!(status(&auth, &w, reader_of("a"), NOW).await, 200);
    assert_eq!(status(&auth, &w, worker_of("b"), NOW).await, 403);
    assert_eq!(status(&auth, &w, reader_of("b"), NOW).await, 403);
    assert_eq!(status(&auth, &w, Need::Operator, NOW).await, 403);
}

#[tokio::test]
async fn names_that_look_like_a_worker_are_none() {
    let mut book = Book::default();
    for (token, name) in [
        ("1", "system:serviceaccount:a:belfry-worker2"),
        ("2", "system:serviceaccount:a:b:belfry-worker"),
        ("3", "belfry-worker"),
        ("4", "system:serviceaccount::belfry-worker"),
        ("5", "system:serviceaccount:a"),
    ] {
        book.hub.insert(of_hub(token), name.to_owned());
    }
    let (auth, _) = auth(book);
    for token in ["1", "2", "3", "4", "5"] {
        for ns in ["a", "", "a:b", "A", "a/../b", "a.b", &"a".repeat(64)] {
            assert_eq!(status(&auth, &of_hub(token), worker_of(ns), NOW).await, 403, "{token} {ns}");
        }
    }
}

#[tokio::test]
async fn a_worker_account_without_the_hubs_audience_is_no_worker_and_the_operator_no_operator() {
    let mut book = Book::default();
    let (w, o) = (of_cluster("w"), of_cluster("o"));
    book.cluster.insert(w.clone(), "system:serviceaccount:a:belfry-worker".to_owned());
    book.cluster.insert(o.clone(), "system:serviceaccount:belfry-system:belfry-operator".to_owned());
    for (accept, expected) in [(false, 401), (true, 403)] {
        let book = Book { cluster: book.cluster.clone(), ..Book::default() };
        let (auth, _) = made(book, accept);
        assert_eq!(status(&auth, &w, worker_of("a"), NOW).await, expected);
        assert_eq!(status(&auth, &o, Need::Operator, NOW).await, expected);
    }
}

#[tokio::test]
async fn the_operator_may_use_only_its_own_paths() {
    let mut book = Book::default();
    let o = of_hub("o");
    book.hub.insert(o.clone(), "system:serviceaccount:belfry-system:belfry-operator".to_owned());
    let (auth, _) = auth(book);
    assert_eq!(status(&auth, &o, Need::Operator, NOW).await, 200);
    assert_eq!(status(&auth, &o, worker_of("a"), NOW).await, 403);
    assert_eq!(status(&auth, &o, reader_of("a"), NOW).await, 403);
}

#[tokio::test]
async fn a_person_reads_where_a_review_allows_it() {
    let mut book = Book::default();
    let p = of_hub("p");
    book.hub.insert(p.clone(), "ann".to_owned());
    book.readers.push(("ann".to_owned(), "a".to_owned()));
    let (auth, _) = auth(book);
    assert_eq!(status(&auth, &p, reader_of("a"), NOW).await, 200);
    assert_eq!(status(&auth, &p, reader_of("b"), NOW).await, 403);
    assert_eq!(status(&auth, &p, worker_of("a"), NOW).await, 403);
}

#[tokio::test]
async fn a_persons_token_for_the_api_server_is_refused_unless_the_settings_take_it() {
    for (accept, expected) in [(false, 401), (true, 200)] {
        let mut book = Book::default();
        let p = of_cluster("p");
        book.cluster.insert(p.clone(), "ann".to_owned());
        book.cluster.insert("opaque".to_owned(), "ann".to_owned());
        book.readers.push(("ann".to_owned(), "a".to_owned()));
        let (auth, book) = made(book, accept);
        assert_eq!(status(&auth, &p, reader_of("a"), NOW).await, expected);
        assert_eq!(status(&auth, "opaque", reader_of("a"), NOW).await, expected);
        if !accept {
            assert_eq!(book.asked.load(Ordering::Relaxed), 0, "its audience alone refuses it");
        }
    }
}

#[tokio::test]
async fn junk_is_refused_without_a_question_and_what_looks_right_is_asked_about_once() {
    let (auth, book) = auth(Book::default());
    for junk in ["junk", "a.b.c", "e30.e30.e30", "..", &of_cluster("x"), &jwt(NOW.as_second())] {
        assert_eq!(status(&auth, junk, worker_of("a"), NOW).await, 401);
    }
    assert_eq!(book.asked.load(Ordering::Relaxed), 0);
    for _ in 0..5 {
        assert_eq!(status(&auth, &of_hub("nobody"), worker_of("a"), NOW).await, 401);
    }
    assert_eq!(book.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_flood_of_unknown_tokens_asks_little_and_a_known_one_goes_on() {
    let mut book = Book::default();
    let w = of_hub("w");
    book.hub.insert(w.clone(), "system:serviceaccount:a:belfry-worker".to_owned());
    let (auth, book) = auth(book);
    assert_eq!(status(&auth, &w, worker_of("a"), NOW).await, 200);
    let mut seen = BTreeMap::new();
    for n in 0..1_000 {
        let status = status(&auth, &of_hub(&format!("junk-{n}")), worker_of("a"), NOW).await;
        *seen.entry(status).or_insert(0) += 1;
    }
    assert!(seen.keys().all(|status| [401, 429].contains(status)), "{seen:?}");
    assert!(book.asked.load(Ordering::Relaxed) < 100, "{seen:?}");
    assert_eq!(status(&auth, &w, worker_of("a"), NOW).await, 200);
    auth.answers.age();
    assert_eq!(
        status(&auth, &w, worker_of("a"), NOW).await,
        200,
        "asked about again, ahead of the strangers"
    );
}

#[tokio::test]
async fn a_hub_that_knows_nobody_yet_turns_no_good_token_away() {
    let mut book = Book::default();
    let workers: Vec<String> = (0..500).map(|n| format!("ns-{n}")).collect();
    for ns in &workers {
        book.hub.insert(of_hub(ns), format!("system:serviceaccount:{ns}:belfry-worker"));
    }
    let (auth, _) = auth(book);
    let asked = workers.iter().map(|ns| {
        let auth = &auth;
        async move { status(auth, &of_hub(ns), worker_of(ns), NOW).await }
    });
    let seen = futures::future::join_all(asked).await;
    assert!(seen.iter().all(|status| *status == 200), "{seen:?}");
}

#[tokio::test]
async fn an_account_that_was_deleted_is_refused_when_its_answer_has_aged() {
    let token = of_hub("p");
    let mut book = Book::default();
    book.hub.insert(token.clone(), "ann".to_owned());
    book.readers.push(("ann".to_owned(), "a".to_owned()));
    let (mut auth, _) = auth(book);
    assert_eq!(status(&auth, &token, reader_of("a"), NOW).await, 200);
    auth.reviewer = Arc::new(Book::default());
    assert_eq!(status(&auth, &token, reader_of("a"), NOW).await, 200, "for a minute");
    auth.answers.age();
    assert_eq!(status(&auth, &token, reader_of("a"), NOW).await, 401);
}

#[tokio::test]
async fn an_expired_token_is_refused_though_its_review_is_remembered() {
    let token = jwt(NOW.as_second() + 60);
    let mut book = Book::default();
    book.hub.insert(token.clone(), "system:serviceaccount:a:belfry-worker".to_owned());
    let (auth, _) = auth(book);
    assert_eq!(status(&auth, &token, worker_of("a"), NOW).await, 200);
    let later = NOW + jiff::SignedDuration::from_secs(60);
    assert_eq!(status(&auth, &token, worker_of("a"), later).await, 401);
}

#[tokio::test]
async fn without_the_api_server_a_reviewed_token_holds_and_a_new_one_waits() {
    let (held, fresh) = (jwt(NOW.as_second() + 3_600), jwt(NOW.as_second() + 7_200));
    let endless = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"aud":"belfry-hub"}"#));
    let person = of_hub("person");
    let mut book = Book::default();
    for token in [&held, &fresh, &endless] {
        book.hub.insert(token.clone(), "system:serviceaccount:a:belfry-worker".to_owned());
    }
    book.hub.insert(person.clone(), "ann".to_owned());
    book.readers.push(("ann".to_owned(), "a".to_owned()));
    let (auth, book) = auth(book);
    assert_eq!(status(&auth, &person, reader_of("a"), NOW).await, 200);
    assert_eq!(status(&auth, &held, worker_of("a"), NOW).await, 200);
    assert_eq!(status(&auth, &endless, worker_of("a"), NOW).await, 200);
    book.down.store(true, Ordering::Relaxed);
    assert_eq!(status(&auth, &fresh, worker_of("a"), NOW).await, 503);
    // Minutes later the answers are stale. The first is extended; the second token has no expiry, the third is a person's.
    auth.answers.age();
    assert_eq!(status(&auth, &held, worker_of("a"), NOW).await, 200);
    assert_eq!(status(&auth, &endless, worker_of("a"), NOW).await, 503);
    assert_eq!(status(&auth, &person, reader_of("a"), NOW).await, 503);
    let asked = book.asked.load(Ordering::Relaxed);
    assert_eq!(status(&auth, &held, worker_of("a"), NOW).await, 200);
    assert_eq!(book.asked.load(Ordering::Relaxed), asked, "a held answer spares the next request the wait");
    assert_eq!(status(&auth, &held, worker_of("a"), NOW + jiff::SignedDuration::from_secs(3_600)).await, 401);
}

#[tokio::test]
async fn a_token_that_the_policy_gave_out_reads_the_namespace_that_it_names_and_does_nothing_else() {
    let soon = NOW.as_second() + 600;
    let granted = token("x", "belfry-hub/a/https://issuer#ann", soon);
    let mut book = Book::default();
    book.hub.insert(granted.clone(), PEOPLE.to_owned());
    let (auth, book) = auth(book);
    let headers = HeaderMap::from_iter([(
        header::AUTHORIZATION,
        HeaderValue::from_str(&format!("Bearer {granted}")).expect("a header"),
    )]);
    let caller = auth.check(&headers, &reader_of("a"), None, NOW).await.expect("allowed");
    assert_eq!(caller, Caller::Person("https://issuer#ann".into()));
    assert_eq!(
        book.asked.load(Ordering::Relaxed),
        1,
        "the token alone: the API server has asked what they may"
    );
    for need in [reader_of("b"), worker_of("a"), Need::Operator] {
        assert_eq!(status(&auth, &granted, need, NOW).await, 403);
    }
}

#[tokio::test]
async fn a_token_that_the_policy_did_not_give_out_reads_nothing() {
    let soon = NOW.as_second() + 600;
    let mut book = Book::default();
    // Somebody who may make tokens of their own account, for any audience.
    let other = token("x", "belfry-hub/a/ann", soon);
    book.hub.insert(other.clone(), "system:serviceaccount:b:mine".to_owned());
    let operator = token("y", "belfry-hub/a/ann", soon);
    book.hub.insert(operator.clone(), "system:serviceaccount:belfry-system:belfry-operator".to_owned());
    let long = token("z", "belfry-hub/a/ann", NOW.as_second() + 7_200);
    book.hub.insert(long.clone(), PEOPLE.to_owned());
    let (auth, _) = auth(book);
    for token in [&other, &operator, &long] {
        for need in [reader_of("a"), worker_of("a"), Need::Operator] {
            assert_eq!(status(&auth, token, need, NOW).await, 401);
        }
    }
    // A hub without such an account does not accept this audience.
    let granted = token("x", "belfry-hub/a/ann", soon);
    let mut book = Book::default();
    book.hub.insert(granted.clone(), PEOPLE.to_owned());
    let (mut auth, book) = made(book, false);
    auth.accounts.people = None;
    assert_eq!(status(&auth, &granted, reader_of("a"), NOW).await, 401);
    assert_eq!(book.asked.load(Ordering::Relaxed), 0);
}
