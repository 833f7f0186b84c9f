//! One of the two files as a batch sees it.

use super::failed::Failed;
use super::schema::{Table, id_key};
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    WriteTransaction,
};
use std::ops::Bound;

/// A range of keys.
pub(super) type Span<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A view that reads from the last commit until the first write, and from then on sees what was
/// written. A batch that only reads opens no write transaction, and so costs no fsync.
pub(super) struct Side<'d> {
    database: &'d Database,
    read: Option<ReadTransaction>,
    write: Option<WriteTransaction>,
    /// Bytes of keys and values written.
    pub(super) bytes: u64,
    /// Set by every access; the batch clears it before each job.
    pub(super) touched: bool,
}

impl<'d> Side<'d> {
    pub(super) fn new(database: &'d Database) -> Self {
        Self { database, read: None, write: None, bytes: 0, touched: false }
    }

    pub(super) fn writing(&self) -> bool {
        self.write.is_some()
    }

    fn read(&mut self) -> Result<&ReadTransaction, Failed> {
        match &mut self.read {
            Some(read) => Ok(read),
            none => Ok(none.insert(self.database.begin_read()?)),
        }
    }

    fn write(&mut self) -> Result<&WriteTransaction, Failed> {
        match &mut self.write {
            Some(write) => Ok(write),
            none => {
                self.read = None;
                let mut write = self.database.begin_write()?;
                write.set_durability(Durability::Immediate)?;
                Ok(none.insert(write))
            }
        }
    }

    pub(super) fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Failed> {
        self.touched = true;
        if let Some(write) = &self.write {
            let table = write.open_table(table)?;
            let value = table.get(key)?;
            Ok(value.map(|value| value.value().to_vec()))
        } else {
            let table = self.read()?.open_table(table)?;
            let value = table.get(key)?;
            Ok(value.map(|value| value.value().to_vec()))
        }
    }

    pub(super) fn len(&mut self, table: Table) -> Result<u64, Failed> {
        self.touched = true;
        match &self.write {
            Some(write) => Ok(write.open_table(table)?.len()?),
            None => Ok(self.read()?.open_table(table)?.len()?),
        }
    }

    /// Calls `each` with the rows of the range in order until it says `false`.
    pub(super) fn scan(
        &mut self,
        table: Table,
        span: Span<'_>,
        each: impl FnMut(&[u8], &[u8]) -> Result<bool, Failed>,
    ) -> Result<(), Failed> {
        self.touched = true;
        match &self.write {
            Some(write) => scan(&write.open_table(table)?, span, each),
            None => scan(&self.read()?.open_table(table)?, span, each),
        }
    }

    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Failed> {
        // What is there already is not worth a commit.
        if !self.writing() && self.get(table, key)?.as_deref() == Some(value) {
            return Ok(());
        }
        self.touched = true;
        self.write()?.open_table(table)?.insert(key, value)?;
        self.bytes = self.bytes.saturating_add(size(key)).saturating_add(size(value));
        Ok(())
    }

    pub(super) fn remove(&mut self, table: Table, key: &[u8]) -> Result<bool, Failed> {
        if !self.writing() && self.get(table, key)?.is_none() {
            return Ok(false);
        }
        self.touched = true;
        self.bytes = self.bytes.saturating_add(size(key));
        Ok(self.write()?.open_table(table)?.remove(key)?.is_some())
    }

    pub(super) fn remove_span(&mut self, table: Table, span: Span<'_>) -> Result<(), Failed> {
        let mut any = false;
        self.scan(table, span, |_, _| {
            any = true;
            Ok(false)
        })?;
        if any {
            self.write()?.open_table(table)?.retain_in::<&[u8], _>(span, |_, _| false)?;
        }
        Ok(())
    }

    /// Removes all rows that begin with the account's number.
    pub(super) fn remove_all_of(&mut self, table: Table, id: u64) -> Result<(), Failed> {
        with_span_of(id, |span| self.remove_span(table, span))
    }

    /// Makes what was written durable; whether there was anything.
    pub(super) fn commit(self) -> Result<bool, Failed> {
        match self.write {
            None => Ok(false),
            Some(write) => write.commit().map(|()| true).map_err(Failed::from),
        }
    }
}

/// The rows that begin with the account's number.
pub(super) fn with_span_of<T>(id: u64, work: impl FnOnce(Span<'_>) -> T) -> T {
    let from = id_key(id);
    match id.checked_add(1).map(id_key) {
        Some(to) => work((Bound::Included(&from), Bound::Excluded(&to))),
        None => work((Bound::Included(&from), Bound::Unbounded)),
    }
}

fn scan(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    span: Span<'_>,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<bool, Failed>,
) -> Result<(), Failed> {
    for row in table.range::<&[u8]>(span)? {
        let (key, value) = row?;
        if !each(key.value(), value.value())? {
            break;
        }
    }
    Ok(())
}

fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
