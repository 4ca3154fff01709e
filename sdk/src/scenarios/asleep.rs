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

/// Nobody may end a lease or leave a queue, say because the token was replaced meanwhile: the place stays.
fn queued_and_never_let_go(got: &Got) -> Option<Does> {
    match got.call.as_str() {
        ACQUIRE if got.body["poll_ms"] == 0 => Some(Does::Answers(202, queued())),
        // As members do: time passes in which the place is kept.
        ACQUIRE => Some(Does::Late(Duration::from_secs(2), 202, queued())),
        call if call.starts_with("DELETE ") => {
            Some(problem(403, "forbidden", "not_applied", "never"))
        }
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_cannot_be_left_is_not_told_as_if_there_were_none() {
    let wait = Duration::from_secs(60);
    let stop = || sleep(Duration::from_secs(1));
    let (members, _, client) = but(queued_and_never_let_go);
    let asked = client.lock("a").ttl(TTL).wait(wait);
    let told = asked.acquire_unless(stop()).await;
    assert!(matches!(told, Err(Error::Unknown(_))), "{told:?}");
    assert_eq!(members.count("DELETE /v1/leases/l0"), 1);
    // Dropped with the asking, the lease is ended in the background, as it would be without a word.
    sleep(Duration::from_millis(1)).await;
    assert_eq!(members.count("DELETE /v1/leases/l0"), 2);

    let (_, _, client) = but(queued_and_never_let_go);
    let lease = granted(&client).await;
    let asked = client.lock("a").on(&lease).wait(wait);
    let told = asked.acquire_unless(stop()).await;
    assert!(matches!(told, Err(Error::Unknown(_))), "{told:?}");
}
