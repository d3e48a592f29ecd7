//! What a fresh artifact costs: nothing of it may be felt between the POST of a job and the ON of its machine.

use std::time::Instant;

use super::*;

/// `cargo test --release -p farmgate-executor --lib artifacts::tests::speed -- --ignored --nocapture`
#[tokio::test]
#[ignore = "a measurement"]
async fn what_a_fresh_artifact_costs() {
    let folder = tempfile::tempdir().unwrap();
    let server =
        Server::start(|_, _| served(&bytes(1 << 20, 1), "a").with("Cache-Control: max-age=600").whole());
    let server = server.await;
    let cache = open(config(folder.path())).await;
    let urls: Vec<String> = (0..100).map(|n| server.url(&n.to_string())).collect();
    for url in &urls {
        get(&cache, url).await.unwrap();
    }
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..200 {
        for url in &urls {
            let begin = Instant::now();
            let fetched = cache.fetch(url, |_, _| {}).await.unwrap();
            took.push(begin.elapsed());
            drop(fetched);
        }
    }
    took.sort();
    let at = |share: f64| took[(took.len() as f64 * share) as usize];
    println!("fresh: p50 {:?}, p99 {:?}, worst {:?}", at(0.5), at(0.99), took[took.len() - 1]);
    assert_eq!(server.requests().len(), urls.len());
    let begin = Instant::now();
    drop(cache);
    open(config(folder.path())).await;
    println!("opening a cache of {} URLs: {:?}", urls.len(), begin.elapsed());
}
