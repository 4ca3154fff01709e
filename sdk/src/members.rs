//! Members that come and go, and who leads.
//!
//! Every call here may be repeated: members answer what is so where that is as asked, and remember who was removed.

use std::time::Duration;

use http::Method;
use tenure_api::{
    AddMember, LeadershipTransferred, Member, MemberChanged, MemberRemoved, TransferLeadership,
};

use crate::call::{Call, Effect};
use crate::client::Client;
use crate::error::Error;
use crate::name::encoded;

/// How long one try is given: the member that is asked may have to reach another one, and the leader to hear from a
/// majority of two sets of voters.
const TRY: Duration = Duration::from_secs(10);

const MEMBERS: &str = "/v1/cluster/members";

impl Client {
    /// Adds a member that runs already, as a learner; with `promote` it is given a vote by itself once it has caught
    /// up, which [`Client::cluster`] shows. Dropped before it is done, it may have been applied or may yet be.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use tenure::api::{AddMember, Code};
    ///
    /// let new = AddMember {
    ///     name: "n4".into(),
    ///     peer_url: "http://10.0.0.4:7380".into(),
    ///     client_url: "http://10.0.0.4:7379".into(),
    ///     promote: true,
    /// };
    /// # let new = AddMember { peer_url: "http://127.0.0.1:1".into(), ..new };
    /// match client.add_member(&new).await {
    ///     Ok(member) => println!("{} is added as {}", member.name, member.id),
    ///     Err(error) if error.code() == Some(Code::MembershipUnsafe) => println!("it cannot be: {error}"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], with [`Code::MembershipUnsafe`](tenure_api::Code::MembershipUnsafe) where it is not
    /// reached, is not who it is said to be, or may not become a member, and with
    /// [`Code::MembershipBusy`](tenure_api::Code::MembershipBusy) where another change is under way for longer than
    /// this client's patience; [`Error::Unknown`].
    pub async fn add_member(&self, member: &AddMember) -> Result<Member, Error> {
        let call = self.changing(Method::POST, MEMBERS.to_owned());
        let changed: MemberChanged = self.perform(&call.with_json(member)).await?.json()?;
        Ok(changed.member)
    }

    /// Adds a member that takes the place of another once it has caught up: at one moment, so that neither counts
    /// beside the other. `old` is best given by its id, since both may have one name. Dropped as
    /// [`Client::add_member`].
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use tenure::api::{AddMember, Code};
    ///
    /// // A new machine at the addresses of the old one.
    /// let old = client.cluster().await?.members.remove(0);
    /// let new = AddMember {
    ///     name: old.name,
    ///     peer_url: old.peer_url,
    ///     client_url: old.client_url,
    ///     promote: true,
    /// };
    /// # let new = AddMember { peer_url: "http://127.0.0.1:1".into(), ..new };
    /// match client.replace_member(&old.id, &new).await {
    ///     Ok(member) => println!("{} takes the place of {}", member.id, old.id),
    ///     Err(error) if error.code() == Some(Code::MembershipUnsafe) => println!("it cannot be: {error}"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # assert_eq!(client.cluster().await?.members.len(), 1);
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Client::add_member`], and with [`Code::MemberNotFound`](tenure_api::Code::MemberNotFound).
    pub async fn replace_member(&self, old: &str, member: &AddMember) -> Result<Member, Error> {
        let call = self.changing(Method::POST, format!("{}/replace", path(old)));
        let changed: MemberChanged = self.perform(&call.with_json(member)).await?.json()?;
        Ok(changed.member)
    }

    /// Gives a learner that has caught up its vote. One that has it is left as it is. Dropped as
    /// [`Client::add_member`].
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use tenure::api::MemberRole;
    ///
    /// # let id = client.cluster().await?.members.remove(0).id;
    /// let promoted = client.promote_member(&id).await?;
    /// assert_eq!(promoted.role, MemberRole::Voter);
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Client::replace_member`].
    pub async fn promote_member(&self, member: &str) -> Result<Member, Error> {
        let call = self.changing(Method::POST, format!("{}/promote", path(member)));
        let changed: MemberChanged = self.perform(&call).await?.json()?;
        Ok(changed.member)
    }

    /// Removes a member, by its id or name: its process ends, and its id is never a member's again. Dropped as
    /// [`Client::add_member`].
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use tenure::api::Code;
    ///
    /// let alone = client.cluster().await?.members.remove(0);
    /// let refused = client.remove_member(&alone.id).await.expect_err("nobody would be left");
    /// assert_eq!(refused.code(), Some(Code::MembershipUnsafe));
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Client::replace_member`]; with [`Code::MembershipUnsafe`](tenure_api::Code::MembershipUnsafe) where too
    /// few of those who would be left answer.
    pub async fn remove_member(&self, member: &str) -> Result<MemberRemoved, Error> {
        let call = self.changing(Method::DELETE, path(member));
        self.perform(&call).await?.json()
    }

    /// Has a member lead, by its id or name, or whoever of the others is furthest ahead; answers once it does. Nothing
    /// that is held in the cluster changes by that. Dropped as [`Client::add_member`].
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// let cluster = client.cluster().await?;
    /// let member = cluster.members.first().expect("there is one");
    /// let led = client.transfer_leadership(Some(&member.name)).await?;
    /// println!("{} leads in term {}", led.leader, led.term);
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Client::replace_member`].
    pub async fn transfer_leadership(
        &self,
        to: Option<&str>,
    ) -> Result<LeadershipTransferred, Error> {
        // Whoever leads by then would be asked to hand over as well: what names nobody is asked once.
        let effect = match to {
            Some(_) => Effect::Repeatable,
            None => Effect::Once,
        };
        let path = "/v1/cluster/leader".to_owned();
        let call = Call::new(Method::POST, path, effect, self.patience).with_tries_of(TRY);
        let member = to.map(str::to_owned);
        let call = call.with_json(&TransferLeadership { member });
        self.perform(&call).await?.json()
    }

    fn changing(&self, method: Method, path: String) -> Call {
        Call::new(method, path, Effect::Repeatable, self.patience).with_tries_of(TRY)
    }
}

fn path(member: &str) -> String {
    format!("{MEMBERS}/{}", encoded(member, false))
}
