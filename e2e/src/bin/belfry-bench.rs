//! Prints the figures of docs/benchmarks.md, as ratios in one run. Never an assertion about a time.
//! `belfry-bench bare TOPIC` is the peer of the consumer: librdkafka that does nothing.

use e2e::bench::{admission, consume, dispatch, latency, size};

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bare", topic] => consume::run_bare_consumer(topic),
        [] => {
            size::print().await;
            latency::print().await;
            dispatch::print().await;
            consume::print().await;
        }
        // Not among all: it takes minutes, and the first part of `bench.sh admission` needs no cluster.
        ["admission"] => admission::print().await,
        ["size"] => size::print().await,
        ["latency"] => latency::print().await,
        ["dispatch"] => dispatch::print().await,
        ["consume"] => consume::print().await,
        _ => eprintln!("usage: belfry-bench [admission | size | latency | dispatch | consume | bare TOPIC]"),
    }
}
