//! One run: connect, prepare, warm up, measure, clean up.
//!
//! Owns when each client works and when all stop. What is under way when the time is over is not counted, but waited for:
//! a write that was cut off could come after the keys were deleted, and a crowd of waiters that hang up is another test
//! than one of speed (the locks of etcd 3.4.23 do not survive it).
//! Whatever was prepared is cleaned up, also after a failure and after an interrupt.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use super::progress::Progress;
use super::system::{Failure, Session, System};
use super::tally::{Summary, Tally};
use super::work::{Client, Plan, Workload, delete_keys};

/// So many clients connect at once: more would overflow the queue of a listener.
const CONNECTING: usize = 64;
const CONNECT: Duration = Duration::from_secs(10);
/// After a failure a client rests, so that a cluster that is away is not flooded.
const REST: Duration = Duration::from_millis(20);
/// How long what is under way is waited for when the time is over.
const LAST: Duration = Duration::from_secs(5);
/// How often the progress is shown.
const SHOW: Duration = Duration::from_millis(250);

/// For how long, and at which pace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    /// Operations a second of all clients; none: as fast as they are answered.
    pub(crate) rate: Option<f64>,
}

/// What a run came to.
pub(crate) struct Measured {
    pub(crate) summary: Summary,
    /// The writes that were watched.
    pub(crate) writes: Option<Summary>,
    /// How many cores this process used, which a cluster on the same machine did not have.
    pub(crate) generator_cores: f64,
}

/// Set once, when the user asks to stop.
pub(crate) type Stop = watch::Receiver<bool>;

/// Runs a workload.
///
/// # Errors
///
/// Where it could not be prepared, or was stopped.
pub(crate) async fn run<S: System>(
    system: S,
    plan: Plan,
    timing: Timing,
    stop: &Stop,
    progress: &Progress,
) -> Result<Measured, Failure> {
    let run = Run {
        system: Arc::new(system),
        plan: Arc::new(plan),
        timing,
        stop: stop.clone(),
    };
    progress.say("preparing");
    let (clients, prepared) = run.prepare().await;
    let measured = match prepared {
        Ok(()) => run.measure(clients, progress).await,
        Err(failure) => (clients, Err(failure)),
    };
    let (clients, outcome) = measured;
    progress.say("cleaning up");
    run.clean_up(clients).await;
    outcome
}

struct Run<S> {
    system: Arc<S>,
    plan: Arc<Plan>,
    timing: Timing,
    stop: Stop,
}

type Clients<S> = Vec<Client<<S as System>::Session>>;

impl<S: System> Run<S> {
    /// All clients that came to be, and whether all are ready.
    async fn prepare(&self) -> (Clients<S>, Result<(), Failure>) {
        let permits = Arc::new(Semaphore::new(CONNECTING));
        let mut tasks = JoinSet::new();
        for number in 0..self.plan.clients {
            let system = Arc::clone(&self.system);
            let plan = Arc::clone(&self.plan);
            let permits = Arc::clone(&permits);
            tasks.spawn(async move {
                let permit = permits.acquire().await;
                let session = match open(&*system, number).await {
                    Ok(session) => session,
                    Err(failure) => return (None, Err(failure)),
                };
                let mut client = Client::new(session, plan, number);
                let mut ready = client.prepare().await;
                drop(permit);
                if ready.is_ok() {
                    ready = client.wait_for_others().await;
                }
                (Some(client), ready)
            });
        }
        let mut stop = self.stop.clone();
        let mut clients = Vec::new();
        let mut outcome = Ok(());
        loop {
            let joined = tokio::select! {
                joined = tasks.join_next() => joined,
                () = stopped(&mut stop), if outcome.is_ok() => {
                    self.plan.give_up();
                    outcome = Err(interrupted());
                    continue;
                }
            };
            let Some(joined) = joined else {
                return (clients, outcome);
            };
            let (client, ready) = joined.expect("no client panics");
            clients.extend(client);
            if let Err(failure) = ready {
                self.plan.give_up();
                outcome = outcome.and(Err(failure));
            }
        }
    }

    async fn measure(
        &self,
        clients: Clients<S>,
        progress: &Progress,
    ) -> (Clients<S>, Result<Measured, Failure>) {
        let begin = Instant::now();
        let from = begin + self.timing.warmup;
        let end = from + self.timing.duration;
        let tally = Arc::new(Tally::new(from..=end));
        let writes = Arc::new(Tally::new(from..=end));
        let mut tasks = JoinSet::new();
        let watching = self.plan.workload == Workload::Watch;
        for (place, client) in clients.into_iter().enumerate() {
            let pace = if watching {
                Pace::none()
            } else {
                let rate = self.timing.rate.map(|rate| rate * client.part());
                let phase = (place * client.weight()) as f64 / self.plan.clients as f64;
                Pace::new(begin, rate, phase)
            };
            let last = match self.plan.workload {
                // What is not written any more is never delivered.
                Workload::Watch => Duration::ZERO,
                _ => LAST,
            };
            let over = Over::new(end, last, &self.stop);
            tasks.spawn(work(client, Arc::clone(&tally), pace, over));
        }
        let writer = watching.then(|| {
            let system = Arc::clone(&self.system);
            let plan = Arc::clone(&self.plan);
            let pace = Pace::new(begin, self.timing.rate, 0.0);
            let over = Over::new(end, LAST, &self.stop);
            let tally = Arc::clone(&writes);
            tokio::spawn(write_for_watchers(system, plan, tally, pace, over))
        });
        let generator_cores = self.look_on(from, end, &tally, progress).await;
        let clients = tasks.join_all().await;
        if let Some(writer) = writer {
            writer.await.expect("the writer does not panic");
        }
        if *self.stop.borrow() {
            return (clients, Err(interrupted()));
        }
        let measured = Measured {
            summary: tally.summary(self.timing.duration),
            writes: watching.then(|| writes.summary(self.timing.duration)),
            generator_cores,
        };
        (clients, Ok(measured))
    }

    /// Shows the progress until the run is over; answers how many cores this process used in the measured time.
    async fn look_on(
        &self,
        from: Instant,
        end: Instant,
        tally: &Tally,
        progress: &Progress,
    ) -> f64 {
        let mut used = None;
        let whole = self.timing.warmup + self.timing.duration;
        let mut stop = self.stop.clone();
        while !*stop.borrow() && Instant::now() < end {
            let now = Instant::now();
            if now >= from && used.is_none() {
                used = Some((now, cpu_time()));
            }
            let boundary = if now < from { from } else { end };
            let next = boundary.min(now + SHOW);
            tokio::select! {
                () = sleep_until(next.into()) => {}
                () = stopped(&mut stop) => {}
            }
            let left = end.saturating_duration_since(Instant::now());
            progress.show(whole.saturating_sub(left), whole, tally.seen());
        }
        used.map_or(0.0, |(since, before)| {
            let used = cpu_time().saturating_sub(before);
            used.as_secs_f64() / since.elapsed().as_secs_f64()
        })
    }

    async fn clean_up(&self, clients: Clients<S>) {
        let mut tasks = JoinSet::new();
        for client in clients {
            tasks.spawn(client.leave());
        }
        let mut left = 0;
        let mut why = None;
        while let Some(joined) = tasks.join_next().await {
            let (leases, failure) = joined.expect("no client panics");
            left += leases;
            why = why.or(failure);
        }
        if let Some(why) = why {
            let ttl = self.plan.ttl;
            eprintln!("{left} leases are left behind and end within {ttl:?}: {why}");
        }
        let deleted = match open(&*self.system, 0).await {
            Ok(mut session) => delete_keys(&mut session, &self.plan).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = deleted {
            let prefix = &self.plan.prefix;
            eprintln!("keys under {prefix:?} may be left behind: {failure}");
        }
    }
}

async fn open<S: System>(system: &S, number: usize) -> Result<S::Session, Failure> {
    timeout(CONNECT, system.open(number))
        .await
        .unwrap_or_else(|_| {
            let detail = format!("no connection within {CONNECT:?}");
            Err(Failure::connection(detail))
        })
}

/// One client, until the time is over.
async fn work<S: Session>(
    mut client: Client<S>,
    tally: Arc<Tally>,
    mut pace: Pace,
    over: Over,
) -> Client<S> {
    let on_and_on = async {
        while let Some(asked) = over.unless(pace.next(client.weight())).await {
            let outcome = client.once().await;
            let now = Instant::now();
            match outcome {
                Ok(done) => tally.succeeded(now, now.saturating_duration_since(asked), done),
                Err(failure) => {
                    tally.failed(now, failure);
                    over.unless(sleep(REST)).await;
                }
            }
        }
    };
    over.cut_off(on_and_on).await;
    client
}

/// The one who writes what all others watch.
async fn write_for_watchers<S: System>(
    system: Arc<S>,
    plan: Arc<Plan>,
    tally: Arc<Tally>,
    mut pace: Pace,
    over: Over,
) {
    let paced = pace.every.is_some();
    let mut writer = None;
    let on_and_on = async {
        while over.unless(pace.next(1)).await.is_some() {
            let outcome = async {
                if writer.is_none() {
                    let session = open(&*system, 0).await?;
                    writer = Some(Client::new(session, Arc::clone(&plan), 0));
                }
                let writer = writer.as_mut().expect("it has just been made");
                let written = writer.write_for_watchers().await?;
                if !paced && let Some(complete) = over.unless(plan.complete()).await {
                    complete?;
                }
                Ok(written)
            };
            match outcome.await {
                Ok(done) => tally.succeeded(Instant::now(), Duration::ZERO, done),
                Err(failure) => {
                    tally.failed(Instant::now(), failure);
                    over.unless(sleep(REST)).await;
                }
            }
        }
    };
    over.cut_off(on_and_on).await;
}

/// When the time is over: at its end, or when the user asks to stop.
struct Over {
    end: Instant,
    /// How much longer what is under way may take.
    last: Duration,
    stop: Stop,
}

impl Over {
    fn new(end: Instant, last: Duration, stop: &Stop) -> Over {
        Over {
            end,
            last,
            stop: stop.clone(),
        }
    }

    /// Begins nothing when the time is over, and does not wait beyond it.
    async fn unless<T>(&self, waiting: impl Future<Output = T>) -> Option<T> {
        if Instant::now() >= self.end || *self.stop.borrow() {
            return None;
        }
        let mut waiting = std::pin::pin!(waiting);
        // Most of the time there is nothing to wait for, and no timer is needed.
        if let Some(done) = at_once(waiting.as_mut()).await {
            return Some(done);
        }
        tokio::select! {
            biased;
            done = waiting => Some(done),
            () = self.wait() => None,
        }
    }

    /// Cuts off what goes on beyond the time for the last.
    async fn cut_off(&self, work: impl Future<Output = ()>) {
        let late = async {
            self.wait().await;
            sleep(self.last).await;
        };
        tokio::select! {
            () = work => {}
            () = late => {}
        }
    }

    async fn wait(&self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = sleep_until(self.end.into()) => {}
            () = stopped(&mut stop) => {}
        }
    }
}

/// What a future comes to without waiting; none where it waits.
async fn at_once<T>(mut waiting: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|context| match waiting.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Waits until the user asks to stop.
async fn stopped(stop: &mut Stop) {
    if stop.wait_for(|stopped| *stopped).await.is_err() {
        // Nobody is left who could ask.
        std::future::pending::<()>().await;
    }
}

fn interrupted() -> Failure {
    Failure::new("interrupted", "stopped before its end; it is not counted")
}

fn cpu_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(spent).unwrap_or_default()
}

/// When a client does its next work.
struct Pace {
    /// The time for one operation.
    every: Option<Duration>,
    due: Instant,
}

impl Pace {
    fn none() -> Pace {
        Pace {
            every: None,
            due: Instant::now(),
        }
    }

    /// `phase` spreads the clients over the time between two askings of one; it is counted in operations.
    fn new(begin: Instant, rate: Option<f64>, phase: f64) -> Pace {
        let every = rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        Pace {
            due: begin + every.unwrap_or_default().mul_f64(phase),
            every,
        }
    }

    /// Waits until the next work is due. Answers since when it is: a client that is late because the cluster was slow
    /// has its latency counted from the moment at which it ought to have asked.
    async fn next(&mut self, operations: usize) -> Instant {
        let Some(every) = self.every else {
            return Instant::now();
        };
        let due = self.due;
        self.due += every.mul_f64(operations as f64);
        if Instant::now() >= due {
            return due;
        }
        sleep_until(due.into()).await;
        Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pace_is_kept_and_who_is_late_counts_from_when_it_was_due() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin, Some(100.0), 0.5);
        let first = pace.next(1).await;
        assert!(first - begin >= Duration::from_millis(5), "{first:?}");
        std::thread::sleep(Duration::from_millis(45));
        // Due at 15, 25 and 35 ms, all of them past.
        for due in [15, 25, 35] {
            assert_eq!(pace.next(1).await, begin + Duration::from_millis(due));
        }
        let mut heavy = Pace::new(begin, Some(1000.0), 0.0);
        assert_eq!(heavy.next(40).await, begin);
        assert_eq!(heavy.next(40).await, begin + Duration::from_millis(40));
    }

    #[tokio::test]
    async fn without_a_rate_there_is_no_waiting() {
        let before = Instant::now();
        let mut pace = Pace::new(before, None, 0.9);
        for _ in 0..1000 {
            assert!(pace.next(1).await >= before);
        }
        assert!(before.elapsed() < Duration::from_secs(1));
    }
}
