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

/// What is told to whoever gives up an asking that was not answered, after the machine slept for so long; members say
/// that another holds it, as they do to a repeat of what they have forgotten.
async fn given_up_after(sleeps: Duration) -> Result<Option<Lock>, Error> {
    let tries = AtomicUsize::new(0);
    let (_, clock, client) = but(move |got| match got.call.as_str() {
        ACQUIRE if nth(&tries) == 0 => Some(Does::Hangs),
        ACQUIRE => Some(problem(409, "lock-held", "not_applied", "same")),
        _ => None,
    });
    let stop = async move {
        sleep(Duration::from_secs(1)).await;
        clock.suspend(sleeps);
    };
    client.lock("a").ttl(TTL).acquire_unless(stop).await
}

#[tokio::test(start_paused = true)]
async fn an_asking_that_is_given_up_after_its_record_may_be_gone_is_not_told_as_withdrawn() {
    let told = given_up_after(Duration::from_secs(20)).await;
    assert!(matches!(told, Ok(None)), "{told:?}");
    let told = given_up_after(Duration::from_secs(60)).await;
    assert!(matches!(told, Err(Error::Unknown(_))), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn an_asking_that_cannot_be_given_up_is_not_told_as_if_nothing_had_been_granted() {
    let tries = AtomicUsize::new(0);
    let (_, _, client) = but(move |got| match got.call.as_str() {
        ACQUIRE if nth(&tries) == 0 => Some(Does::Hangs),
        _ => Some(Does::Refuses),
    });
    let stop = sleep(Duration::from_secs(1));
    let told = client.lock("a").ttl(TTL).acquire_unless(stop).await;
    assert!(matches!(told, Err(Error::Unknown(_))), "{told:?}");
}
