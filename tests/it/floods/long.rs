//! All floods at once for minutes: memory stays flat, and somebody honest is served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{gateway, honest, kinds, upstream, windows};
use crate::support::Upstream;

/// For how many seconds; not run when it is not set.
const SECONDS: &str = "PORTCULLIS_TEST_FLOOD_SECONDS";

/// Connections that are flooded at once, one of them with heads that unfold.
const AT_ONCE: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_flat_for_minutes() {
    let Ok(seconds) = std::env::var(SECONDS) else {
        println!("not run: {SECONDS} is not set");
        return;
    };
    let time = Duration::from_secs(seconds.parse().expect("a number of seconds"));
    let (upstream, calm) = (upstream(), Upstream::start());
    let gateway = Arc::new(gateway(&upstream, &calm));
    let (stop, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut floods = JoinSet::new();
    for first in 0..AT_ONCE {
        let (gateway, stop, ended) = (Arc::clone(&gateway), Arc::clone(&stop), Arc::clone(&ended));
        floods.spawn(async move {
            let all = kinds::all(gateway.authority());
            for flood in all.iter().cycle().skip(first * all.len() / AT_ONCE) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                if first == 0 {
                    let held = windows::bomb(&gateway, "/x", 6).await;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    drop(held);
                }
                let end = flood.run(&gateway).await;
                assert!(end.is_in_bounds(), "{}: {end}", flood.name);
                ended.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let watching = async {
        let (begun, mut memory) = (Instant::now(), Vec::new());
        while begun.elapsed() < time {
            tokio::time::sleep(Duration::from_millis(500)).await;
            memory.push(gateway.resident());
            upstream.forget();
            calm.forget();
            assert!(floods.try_join_next().is_none(), "a flood has failed");
        }
        stop.store(true, Ordering::Relaxed);
        memory
    };
    let (memory, (answers, longest)) = tokio::join!(watching, honest(&gateway, &stop));
    while let Some(flood) = floods.join_next().await {
        flood.unwrap();
    }
    // What the first fifth takes to grow warm does not count.
    let part = |from: usize, to: usize| {
        let mut part = memory[memory.len() * from / 5..memory.len() * to / 5].to_vec();
        part.sort_unstable();
        part[part.len() / 2]
    };
    let (early, late) = (part(1, 2), part(4, 5));
    let most = memory.iter().max().unwrap();
    println!(
        "{} floods in {time:?}: {early} KiB, then {late} KiB, at most {most} KiB; meanwhile {answers} answers, the \
         slowest in {longest:?}",
        ended.load(Ordering::Relaxed)
    );
    assert!(late <= early + early / 10, "{early} KiB, then {late} KiB");
    gateway.metric_is("portcullis_requests_in_flight", |open| open == 0.0).await;
}
