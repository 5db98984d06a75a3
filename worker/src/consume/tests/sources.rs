//! Tests kinds of sources: codecs, removed records, missing credentials.

use domain::{FileKind, FileRef, KafkaSecurity, PasswordLogin, PasswordMechanism, Sasl, Username};

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;

#[tokio::test]
async fn records_of_every_codec_are_read() {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 1, 1).unwrap();
    bench.plan(&[(EACH, ERRORS)]);
    bench.consume("a");
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for (number, codec) in codecs.into_iter().enumerate() {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", bench.cluster.bootstrap_servers())
            .set("compression.type", codec)
            .create()
            .unwrap();
        // librdkafka does not compress a batch that would not get smaller.
        let value = format!("{{\"level\":\"ERROR\",\"pad\":\"{}\"}}", codec.repeat(1_000));
        let record = FutureRecord::<[u8], str>::to("logs").partition(0).payload(&value);
        let offset = producer.send(record, PATIENCE).await.unwrap().offset;
        assert_eq!(offset, number as i64);
        bench.until_read(offset + 1).await;
    }
    bench.each_once(codecs.len());
}

/// Lets the mock cluster remove unread records; returns the problem that the consumer reports.
async fn removed(start_from: StartFrom) -> (Bench, String) {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 1, 1).unwrap();
    bench.plan_with(&[(EACH, ERRORS)], |_, rule| rule.start_from = start_from);
    bench.consume("a");
    bench.until("the topic is opened", |ledger| ledger.topics.contains_key("logs")).await;
    bench.produce(0, "{}").await;
    bench.until_read(1).await;
    bench.stop().await;
    // It keeps 5 MiB of a partition.
    for _ in 0..10 {
        bench.produce(0, &LARGE).await;
    }
    bench.produce(0, "{\"level\":\"ERROR\"}").await;
    bench.consume("b");
    let problem = |ledger: &hub::Ledger| {
        let problems = ledger.reports.get("b")?.problems.get(&EACH)?;
        problems.iter().find(|problem| problem.reason == "OffsetsRemoved").map(|one| one.message.clone())
    };
    bench.until("the problem", |ledger| problem(ledger).is_some()).await;
    bench.until_read(12).await;
    let message = problem(&bench.hub.ledger()).unwrap();
    (bench, message)
}

#[tokio::test]
async fn after_a_removal_reading_goes_on_where_start_from_says() {
    let (bench, message) = removed(StartFrom::Earliest).await;
    assert!(message.contains("reading goes on at the first that is kept"), "{message}");
    bench.each_once(1);

    let (mut bench, message) = removed(StartFrom::Latest).await;
    assert!(message.contains("11 of logs/0, reading goes on at the end"), "{message}");
    bench.produce(0, "{\"level\":\"ERROR\"}").await;
    bench.until_read(13).await;
    bench.each_once(1);
    bench.stop().await;
}

#[tokio::test]
async fn a_missing_password_is_named_and_reading_starts_when_it_is_there() {
    let mounted = tempfile::tempdir().unwrap();
    let mut bench = Bench::start().await;
    bench.plan_with(&[(EACH, ERRORS)], |source, _| {
        let password =
            FileRef { kind: FileKind::Secret, name: "user".to_owned(), key: "password".to_owned() };
        let username = Username::Text("alerts".to_owned());
        let sasl =
            Sasl::Password(PasswordLogin { mechanism: PasswordMechanism::ScramSha256, username, password });
        *source.security = KafkaSecurity { tls: None, sasl: Some(sasl) };
        source.bootstrap_servers = vec!["127.0.0.1:1".to_owned()];
    });
    bench.consume_with("a", mounted.path().to_str().unwrap());
    let problem = |ledger: &hub::Ledger| ledger.reports.get("a")?.problems.get(&EACH)?.first().cloned();
    bench.until("the problem", |ledger| problem(ledger).is_some()).await;
    let told = problem(&bench.hub.ledger()).unwrap();
    assert_eq!(told.reason, "SecretKeyNotFound");
    assert_eq!(
        told.message,
        "key \"password\" of Secret \"user\" is not there: the Secret is missing, or only the key in it"
    );

    std::fs::create_dir_all(mounted.path().join("secrets/user")).unwrap();
    std::fs::write(mounted.path().join("secrets/user/password"), "canary-password").unwrap();
    let unreachable =
        |ledger: &mut hub::Ledger| problem(ledger).is_some_and(|told| told.reason == "BrokerUnreachable");
    bench.until("nobody listens there", unreachable).await;
    assert!(!problem(&bench.hub.ledger()).unwrap().message.contains("canary"));
    bench.stop().await;
}

#[tokio::test]
async fn a_group_that_the_user_may_not_join_is_reported_until_it_may() {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 1, 1).unwrap();
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 200];
    bench.cluster.request_errors(RDKafkaApiKey::JoinGroup, &refused);
    bench.plan(&[(EACH, ERRORS)]);
    bench.consume("a");
    let reason =
        |ledger: &hub::Ledger| Some(ledger.reports.get("a")?.problems.get(&EACH)?.first()?.reason.clone());
    bench.until("the problem", |ledger| reason(ledger).as_deref() == Some("KafkaAuthorizationFailed")).await;
    bench.cluster.clear_request_errors(RDKafkaApiKey::JoinGroup);
    bench.produce(0, "{\"level\":\"ERROR\"}").await;
    bench.until_read(1).await;
    bench.until("it is healed", |ledger| reason(ledger).is_none()).await;
    bench.each_once(1);
}
