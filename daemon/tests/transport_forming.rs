//! How a cluster comes to be, with members in one process on real sockets: once, and never beside another.

mod transport_support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure_raft::MemberId;
use tenure_state::Limits;
use tenured::forming::{Beginning, Belonging, Formed, FormingError, form_or_wait, keep_offering};
use tenured::tls::Calling;
use tenured::transport::{Transport, ask_hello};
use tokio::task::JoinHandle;

use transport_support::*;

/// What a member has on its disk.
type Disk = Arc<Mutex<Option<Formed>>>;

/// Long enough for several rounds of questions: what did not happen by then does not happen.
const QUIET: Duration = Duration::from_millis(1500);

/// A place where a member runs, again and again.
struct Place {
    id: u64,
    name: String,
    url: String,
    members: BTreeMap<String, String>,
    disk: Disk,
}

/// A member that runs.
struct Running {
    node: Node,
    forming: JoinHandle<Result<Formed, FormingError<String>>>,
}

async fn places(names: &[&str]) -> Vec<Place> {
    let mut places = Vec::new();
    for (name, id) in names.iter().zip(1..) {
        // The port is free again at once, and nobody else on this machine is given it so soon.
        let (_listener, url) = listener().await;
        places.push(Place {
            id,
            name: (*name).to_owned(),
            url,
            members: BTreeMap::new(),
            disk: Disk::default(),
        });
    }
    let members: BTreeMap<_, _> = places
        .iter()
        .map(|place| (place.name.clone(), place.url.clone()))
        .collect();
    places
        .iter_mut()
        .for_each(|place| place.members = members.clone());
    places
}

impl Place {
    async fn start(&self) -> Running {
        self.start_with(|_| Ok(())).await
    }

    /// Starts the member as `serve` does; `fault` may make the write of the first configuration fail.
    async fn start_with(
        &self,
        fault: impl Fn(&Formed) -> Result<(), String> + Send + 'static,
    ) -> Running {
        let identity = identity(self.id, &self.name, Some(self.members.clone()));
        let node = Node::start(identity, listen_again(&self.url).await, &self.url);
        let forming = tokio::spawn(run(
            node.transport.clone(),
            self.limits(),
            Arc::clone(&self.disk),
            fault,
        ));
        Running { node, forming }
    }

    /// Each was told limits of its own, so that it can be seen whose the cluster began with.
    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.set("keys", 1000 + self.id).expect("it is accepted");
        limits
    }

    fn stored(&self) -> Option<Formed> {
        self.disk.lock().expect("no panic").clone()
    }
}

async fn run(
    transport: Transport,
    limits: Limits,
    disk: Disk,
    fault: impl Fn(&Formed) -> Result<(), String> + Send + 'static,
) -> Result<Formed, FormingError<String>> {
    let stored = disk.lock().expect("no panic").clone();
    let formed = match stored {
        Some(formed) => {
            transport.update(formed.cluster, &formed.configuration, &formed.configuration);
            formed
        }
        None => {
            let persist = move |belonging: &Belonging| {
                let Belonging::Formed(formed) = belonging else {
                    panic!("nobody is replaced here");
                };
                fault(formed)?;
                *disk.lock().expect("no panic") = Some(formed.clone());
                Ok(())
            };
            let beginning = Beginning {
                limits,
                ..Beginning::default()
            };
            match form_or_wait(&transport, &Calling::default(), beginning, persist).await? {
                Belonging::Formed(formed) => formed,
                Belonging::Joined(_) => panic!("nobody is replaced here"),
            }
        }
    };
    keep_offering(&transport, &formed, &formed.configuration.info).await;
    Ok(formed)
}

impl Running {
    async fn formed(self) -> Formed {
        within("the cluster is formed", self.forming)
            .await
            .expect("no panic")
            .expect("formed")
    }

    async fn failed(self) -> String {
        let error = within("forming ends", self.forming)
            .await
            .expect("no panic")
            .expect_err("a failure");
        self.node.transport.stop().await;
        error.to_string()
    }

    async fn stop(self) {
        within("stops", self.node.transport.stop()).await;
        // Whatever it came to is what a process that stopped did not live to see.
        let _ = within("forming ends", self.forming).await;
    }
}

async fn stays_empty(place: &Place) {
    let formed = until("it forms a cluster", || place.stored().is_some());
    let formed = tokio::time::timeout(QUIET, formed).await;
    assert!(formed.is_err(), "{} formed a cluster", place.name);
}

async fn all_have_it(places: &[Place]) -> Formed {
    until("every member has it on disk", || {
        places.iter().all(|place| place.stored().is_some())
    })
    .await;
    let formed = places[0].stored().expect("as just seen");
    assert!(
        places
            .iter()
            .all(|place| place.stored().as_ref() == Some(&formed)),
        "two clusters were formed, or one with two beginnings"
    );
    assert_eq!(
        formed.limits,
        places[0].limits(),
        "the one with the least name forms, with its limits"
    );
    formed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_empty_members_form_one_cluster_and_connect() {
    let places = places(&["n1", "n2", "n3"]).await;
    let mut running = Vec::new();
    for place in &places {
        running.push(place.start().await);
    }
    let formed = all_have_it(&places).await;
    assert_eq!(formed.configuration.voters, (1..=3).map(MemberId).collect());
    for place in &places {
        let info = &formed.configuration.info[&MemberId(place.id)];
        let client_url = format!("http://client-of-{}", place.name);
        assert_eq!(
            (&info.name, &info.peer_url, &info.client_url),
            (&place.name, &place.url, &client_url)
        );
    }
    for member in &running {
        for to in formed
            .configuration
            .voters
            .iter()
            .filter(|to| **to != member.node.id)
        {
            until("it dials", || !member.node.transport.links().is_empty()).await;
            member.node.connected(*to).await;
        }
    }
    for member in running {
        assert_eq!(member.formed().await, formed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_one_forms_at_once() {
    let places = places(&["alone"]).await;
    let formed = places[0].start().await.formed().await;
    assert_eq!(places[0].stored(), Some(formed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_formed_before_all_were_reached() {
    let places = places(&["n1", "n2", "n3"]).await;
    let _first = places[0].start().await;
    let _second = places[1].start().await;
    stays_empty(&places[0]).await;
    let _third = places[2].start().await;
    all_have_it(&places).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_fails_before_it_has_written_leaves_all_empty_and_may_try_again() {
    let places = places(&["n1", "n2"]).await;
    let _second = places[1].start().await;
    let failed = places[0]
        .start_with(|_| Err("disk full".to_owned()))
        .await
        .failed()
        .await;
    assert!(failed.contains("disk full"), "{failed}");
    stays_empty(&places[1]).await;
    let _first = places[0].start().await;
    all_have_it(&places).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_stops_after_it_has_written_offers_when_it_is_back() {
    let places = places(&["n1", "n2", "n3"]).await;
    // The first configuration is on the writer's disk and nobody was told, as after a crash right behind the sync.
    let written = Arc::clone(&places[0].disk);
    let crash = move |formed: &Formed| {
        *written.lock().expect("no panic") = Some(formed.clone());
        Err("crashed".to_owned())
    };
    let first = places[0].start_with(crash).await;
    let _second = places[1].start().await;
    let _third = places[2].start().await;
    first.failed().await;
    assert!(places[0].stored().is_some());
    stays_empty(&places[1]).await;
    let _first = places[0].start().await;
    all_have_it(&places).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_fails_to_write_is_offered_it_again() {
    let places = places(&["n1", "n2"]).await;
    let _first = places[0].start().await;
    let failed = places[1]
        .start_with(|_| Err("disk full".to_owned()))
        .await
        .failed()
        .await;
    assert!(failed.contains("disk full"), "{failed}");
    assert!(places[0].stored().is_some());
    let _second = places[1].start().await;
    all_have_it(&places).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_have_it_offer_it_too_so_that_the_writer_may_be_lost() {
    let places = places(&["n1", "n2", "n3"]).await;
    let first = places[0].start().await;
    let second = places[1].start().await;
    let third = places[2].start_with(|_| Err("disk full".to_owned())).await;
    third.failed().await;
    until("the second has it", || places[1].stored().is_some()).await;
    first.stop().await;
    let _third = places[2].start().await;
    all_have_it(&places).await;
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_data_never_forms_and_is_given_nothing() {
    let mut places = places(&["n1", "n2", "n3"]).await;
    let mut running = Vec::new();
    for place in &places {
        running.push(place.start().await);
    }
    let formed = all_have_it(&places).await;
    // The one with the least name loses everything, its id too; then even all others restart.
    running.remove(0).stop().await;
    places[0].disk = Disk::default();
    places[0].id = 99;
    let _wiped = places[0].start().await;
    for (place, member) in places[1..].iter().zip(running) {
        member.stop().await;
        drop(place.start().await);
    }
    stays_empty(&places[0]).await;
    let hello = ask_hello(None, &places[0].url).await.expect("it answers");
    assert_eq!((hello.member, hello.cluster), (MemberId(99), None));
    assert_eq!(places[1].stored(), Some(formed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_were_told_different_lists_form_when_they_are_corrected() {
    let mut places = places(&["n1", "n2"]).await;
    let right = places[1].members.clone();
    places[1]
        .members
        .insert("n3".to_owned(), "http://127.0.0.1:1".to_owned());
    let _first = places[0].start().await;
    let second = places[1].start().await;
    stays_empty(&places[0]).await;
    assert_eq!(places[1].stored(), None);
    second.stop().await;
    places[1].members = right;
    let _second = places[1].start().await;
    all_have_it(&places).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_without_this_member_is_an_error_that_says_so() {
    let mut places = places(&["n1", "n2"]).await;
    places[0].members.remove("n1");
    let failed = places[0].start().await.failed().await;
    assert!(failed.contains("n1, is not among them"), "{failed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_ends_the_wait() {
    let places = places(&["n1", "n2"]).await;
    let first = places[0].start().await;
    first.node.transport.stop().await;
    assert!(matches!(
        within("it ends", first.forming).await.expect("no panic"),
        Err(FormingError::Stopped)
    ));
}
