//! Tests every error that a broker can answer with, for every request that a consumer makes.

use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr};

use super::*;

/// How many errors come in a row before records come again.
const ROW: usize = 8;

/// Answers requests of this kind with each error in turn, while records come; each must be counted once.
async fn survives(api: Api, codes: &[RDKafkaRespErr]) {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 2, 1).unwrap();
    bench.plan(&[(EACH, ERRORS), (OFTEN, ERRORS)]);
    bench.consume("a");
    bench.produce_many(2, 20).await;
    bench.until_read(20).await;
    let (mut produced, mut restarts) = (20, 0);
    for row in codes.chunks(ROW) {
        bench.cluster.request_errors(api, row);
        tokio::time::sleep(Duration::from_millis(300)).await;
        bench.produce_many(2, 10).await;
        produced += 10;
        let begun = Instant::now();
        while total(&bench.hub.ledger()) < produced {
            assert!(
                begun.elapsed() < PATIENCE,
                "{api:?} {row:?}: {} of {produced}",
                total(&bench.hub.ledger())
            );
            // The consumer may end with an error; a new one then stands for the restarted pod.
            if bench.running[0].1.is_finished() {
                let ended = bench.running.remove(0).1.await.unwrap();
                assert!(ended.is_err(), "{api:?} {row:?}: it left without a reason");
                restarts += 1;
                bench.consume("a");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bench.cluster.clear_request_errors(api);
    }
    println!("{api:?}: {} errors, {produced} records, {restarts} times started anew", codes.len());
    bench.each_once(usize::try_from(produced / 10).unwrap());
    assert_eq!(bench.hub.ledger().counts[&OFTEN], produced / 10);
}

#[tokio::test]
async fn whatever_the_broker_answers_each_record_is_counted_once() {
    let codes = crate::kafka::mock::errors();
    // The consumer waits longest after each of these, so each consumer gets half of them.
    let (first, second) = codes.split_at(codes.len() / 2);
    let mut all = vec![survives(Api::Fetch, first), survives(Api::Fetch, second)];
    let others = [
        Api::ListOffsets,
        Api::Metadata,
        Api::FindCoordinator,
        Api::JoinGroup,
        Api::SyncGroup,
        Api::Heartbeat,
        Api::OffsetCommit,
    ];
    all.extend(others.map(|api| survives(api, &codes)));
    futures::future::join_all(all).await;
}
