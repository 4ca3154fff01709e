//! A store in PostgreSQL: a table keeps the highest fence, and each statement that writes looks at it itself.
//!
//! The row of the fence is locked from the look until the statement commits, so that a stale write is either refused or
//! there before the later holder reads.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls};

use crate::inventory::Item;
use crate::store::{Progress, Store, StoreError};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Many hosts may make the tables at once, which `if not exists` alone does not allow.
const TABLES: &str = "
begin;
select pg_advisory_xact_lock(7379);
create table if not exists fence (lock text primary key, highest bigint not null);
create table if not exists night (night text primary key, fence bigint not null);
create table if not exists inventory (
    night text not null, item text not null, bytes bigint not null, checksum bigint not null, fence bigint not null,
    primary key (night, item));
commit;
set statement_timeout = '10s'";

/// Raises the fence, and has a row only where it is not stale. Every write begins so.
macro_rules! admitted {
    ($then:literal) => {
        concat!(
            "with admitted as (
                insert into fence values ($1, $2)
                on conflict (lock) do update set highest = excluded.highest where fence.highest <= excluded.highest
                returning highest) ",
            $then
        )
    };
}

const BEGIN: &str = admitted!("select 1 from admitted");
const WRITE: &str = admitted!(
    "insert into inventory select $3, $4, $5, $6, $2 from admitted
     on conflict (night, item) do update set bytes = excluded.bytes, checksum = excluded.checksum, fence = excluded.fence"
);
const FINISH: &str = admitted!(
    "insert into night select $3, $2 from admitted on conflict (night) do update set fence = excluded.fence"
);

/// A database, and the lock whose fences it knows.
pub(crate) struct Database {
    client: Client,
    lock: String,
}

impl Database {
    /// Connects, and makes the tables where they are missing. Without TLS: for a database on this host or beside it.
    pub(crate) async fn connect(url: &str, lock: &str) -> Result<Database, StoreError> {
        let connecting = timeout(CONNECT, tokio_postgres::connect(url, NoTls));
        let connected = connecting.await.map_err(|_| {
            StoreError::Database(format!("no connection within {} s", CONNECT.as_secs()))
        })?;
        let (client, connection) = connected.map_err(failed)?;
        // Ends with the client, whose calls tell of its errors.
        tokio::spawn(connection);
        client.batch_execute(TABLES).await.map_err(failed)?;
        Ok(Database {
            client,
            lock: lock.to_owned(),
        })
    }

    /// Runs a statement that begins with `admitted!`. That it touched no row says that the fence is stale.
    async fn admit(
        &self,
        statement: &str,
        fence: u64,
        more: &[&(dyn ToSql + Sync)],
    ) -> Result<(), StoreError> {
        let stored = number(fence)?;
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&self.lock, &stored];
        parameters.extend(more);
        if self
            .client
            .execute(statement, &parameters)
            .await
            .map_err(failed)?
            > 0
        {
            return Ok(());
        }
        let highest = "select highest from fence where lock = $1";
        let row = self
            .client
            .query_one(highest, &[&self.lock])
            .await
            .map_err(failed)?;
        let highest = u64::try_from(row.get::<_, i64>(0)).map_err(failed)?;
        Err(StoreError::Stale { fence, highest })
    }
}

impl Store for Database {
    async fn begin(&mut self, night: &str, fence: u64) -> Result<Progress, StoreError> {
        self.admit(BEGIN, fence, &[]).await?;
        let items = "select item from inventory where night = $1";
        let items = self.client.query(items, &[&night]).await.map_err(failed)?;
        let finished = "select 1 from night where night = $1";
        let finished = self
            .client
            .query_opt(finished, &[&night])
            .await
            .map_err(failed)?;
        Ok(Progress {
            done: items.iter().map(|row| row.get(0)).collect(),
            finished: finished.is_some(),
        })
    }

    async fn write(&mut self, night: &str, fence: u64, item: &Item) -> Result<(), StoreError> {
        let (bytes, checksum) = (number(item.bytes)?, i64::from(item.checksum));
        self.admit(WRITE, fence, &[&night, &item.name, &bytes, &checksum])
            .await
    }

    async fn finish(&mut self, night: &str, fence: u64) -> Result<(), StoreError> {
        self.admit(FINISH, fence, &[&night]).await
    }
}

/// PostgreSQL has signed numbers; fences are less than 2^53.
fn number(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(failed)
}

fn failed(error: impl std::error::Error) -> StoreError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    StoreError::Database(text)
}
