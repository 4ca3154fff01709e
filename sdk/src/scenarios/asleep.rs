//! A machine that is suspended for a while: its timers stood still, what is believed did not.

use super::*;

#[tokio::test(start_paused = true)]
async fn work_is_not_polled_once_more_after_the_machine_slept_beyond_the_deadline() {
    let (_, clock, client) = but(|_| None);
    let lock = client.lock("a").ttl(TTL).acquire().await;
    let lock = Arc::new(lock.expect("it is acquired"));
    let steps = Arc::new(AtomicUsize::new(0));
    let running = tokio::spawn({
        let (lock, steps) = (Arc::clone(&lock), Arc::clone(&steps));
        async move {
            // Its timer is due before any that looks at the clock.
            let work = async {
                loop {
                    sleep(Duration::from_millis(1)).await;
                    nth(&steps);
                }
            };
            lock.run(work).await
        }
    });
    sleep(Duration::from_millis(600)).await;
    clock.suspend(TTL);
    let before = steps.load(Ordering::SeqCst);
    let ran: Result<(), Error> = running.await.expect("it runs");
    assert!(matches!(ran, Err(Error::Lost(Loss::Deadline))), "{ran:?}");
    assert!(before > 400, "it worked until then: {before}");
    assert_eq!(steps.load(Ordering::SeqCst), before);
}
