//! Tests each kind of client that a worker makes against local listeners that see who connects.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use delivery::{Files, Http};
use domain::{AddressRange, KafkaSecurity};
use rdkafka::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureRecord};

use super::*;
use crate::kafka::native::describe_topics;
use crate::kafka::{ClientMonitor, ClusterAccess, KafkaTokens, client_config, mock};

/// How long a client may try; enough for many local connections.
const TRIES: Duration = Duration::from_millis(1_500);

fn allowing(ranges: &[&str]) -> Guard {
    let ranges: Vec<AddressRange> = ranges.iter().map(|range| range.parse().unwrap()).collect();
    Guard::new(false).with_ranges(Vec::new(), ranges)
}

async fn access(guard: Guard, server: &str) -> ClusterAccess {
    let files = Files::new("/nonexistent");
    let tokens = KafkaTokens::new(Arc::new(Http::new(guard)));
    let servers = [server.to_owned()];
    ClusterAccess::read(&servers, &KafkaSecurity::default(), &files, &tokens).await.unwrap()
}

/// The kinds of client that a worker makes.
#[derive(Clone, Copy, Debug)]
enum ClientKind {
    Consumer,
    Producer,
    Admin,
}

/// Asks the server something with a client of this kind and name; returns the client's fault.
fn ask(access: &ClusterAccess, made: ClientKind, name: &str) -> String {
    let mut config = client_config(access, "test");
    config.set("client.id", name);
    let (monitor, names) = (access.monitor(), ["logs".to_owned()]);
    let answer = match made {
        ClientKind::Consumer => {
            config.set("group.id", "test");
            let client: BaseConsumer<ClientMonitor> = access.client(&config, monitor.clone()).unwrap();
            client.subscribe(&["logs"]).unwrap();
            let _ = client.poll(TRIES / 2);
            describe_topics(client.client(), &names, TRIES)
        }
        ClientKind::Producer => {
            let client: FutureProducer<ClientMonitor> = access.client(&config, monitor.clone()).unwrap();
            describe_topics(client.client(), &names, TRIES)
        }
        ClientKind::Admin => {
            let client: AdminClient<ClientMonitor> = access.client(&config, monitor.clone()).unwrap();
            describe_topics(client.inner(), &names, TRIES)
        }
    };
    monitor.worst_fault(answer.expect_err("no Kafka is there")).why
}

/// Whether a client connects to a local port when the broker is named `host`, and the client's fault.
async fn connects(guard: Guard, host: &str, made: ClientKind) -> (bool, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let access = access(guard, &format!("{host}:{port}")).await;
    let name = format!("{made:?}-to-{port}");
    let asked = name.clone();
    let said = tokio::task::spawn_blocking(move || ask(&access, made, &asked)).await.unwrap();
    // Clients that connected wait in the listener's queue and have sent their name. A client of another test may look for a
    // broker that had this port before.
    let waiting = std::iter::from_fn(|| listener.accept().ok());
    let mut names = waiting.map(|(mut stream, _)| {
        stream.set_nonblocking(true).unwrap();
        let mut first = [0; 256];
        let read = stream.read(&mut first).unwrap_or(0);
        String::from_utf8_lossy(&first[..read]).into_owned()
    });
    (names.any(|said| said.contains(&name)), said)
}

#[tokio::test]
async fn no_client_connects_to_an_address_that_is_not_allowed_however_it_is_named() {
    let hosts = ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1"];
    let first = [ClientKind::Producer, ClientKind::Admin].map(|made| ("127.0.0.1", made));
    let all = hosts.map(|host| (host, ClientKind::Consumer)).into_iter().chain(first);
    let asked = all.map(|(host, made)| async move {
        let (connected, _) = connects(Guard::new(false), host, made).await;
        assert!(!connected, "{made:?} to {host}");
    });
    futures::future::join_all(asked).await;
}

#[tokio::test]
async fn an_allowed_address_is_connected_to_and_closed_open_and_forbidden_ports_are_told_alike() {
    let mut told = Vec::new();
    for made in [ClientKind::Consumer, ClientKind::Producer, ClientKind::Admin] {
        let (connected, said) = connects(allowing(&["127.0.0.0/8"]), "localhost", made).await;
        assert!(connected, "{made:?}");
        told.push(said);
        told.push(connects(Guard::new(false), "localhost", made).await.1);
        let nobody = access(allowing(&["127.0.0.0/8"]), "127.0.0.1:1").await;
        told.push(tokio::task::spawn_blocking(move || ask(&nobody, made, "nobody")).await.unwrap());
    }
    assert!(told.iter().all(|said| said == crate::kafka::NO_ANSWER), "{told:#?}");
}

/// Forwards connections to another port, from an address that is not the one that the cluster names.
fn forward_to(to: u16) -> String {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let server = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for inward in listener.incoming() {
            let (inward, outward) = (inward.unwrap(), TcpStream::connect(("127.0.0.1", to)).unwrap());
            for (mut from, mut to) in
                [(inward.try_clone().unwrap(), outward.try_clone().unwrap()), (outward, inward)]
            {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.flush();
                });
            }
        }
    });
    server
}

#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "only Linux answers at all of 127.0.0.0/8")]
async fn a_broker_that_the_cluster_names_is_judged_like_one_of_the_source() {
    let cluster = MockCluster::<DefaultProducerContext>::new(1).unwrap();
    cluster.create_topic("logs", 1, 1).unwrap();
    let real = cluster.bootstrap_servers();
    let server = forward_to(real.rsplit_once(':').unwrap().1.parse().unwrap());
    for (ranges, arrives) in [(&["127.0.0.2"][..], false), (&["127.0.0.2", "127.0.0.1"], true)] {
        let access = access(allowing(ranges), &server).await;
        let mut config = client_config(&access, "test");
        config.set("message.timeout.ms", TRIES.as_millis().to_string());
        let producer: FutureProducer<ClientMonitor> = access.client(&config, access.monitor()).unwrap();
        let asker = producer.clone();
        let found = tokio::task::spawn_blocking(move || {
            asker.client().fetch_metadata(Some("logs"), Duration::from_secs(20)).map(|it| it.brokers().len())
        });
        assert_eq!(found.await.unwrap().unwrap(), 1, "the door is allowed: it tells where the broker is");
        let sent = producer.send(FutureRecord::<str, str>::to("logs").payload("x"), Duration::ZERO).await;
        assert_eq!(
            sent.is_ok(),
            arrives,
            "{ranges:?}: {:?}",
            sent.map_err(|(error, it)| (error, it.offset()))
        );
    }
    assert_eq!(mock::held(&real, "logs").await, 1);
}
