//! Accounts, their credentials and their certificates.

use super::batch::Batch;
use super::change::{AccountId, Answer, Invite, Keys, Loaded, Refused, ScramKeys};
use super::failed::Failed;
use super::journal::Redo;
use super::record::{Decoder, Encoder, key_text};
use super::schema::{
    ACCOUNTS, BLOCKS, CERTIFICATES, CERTIFICATES_OF, KEYS, META, NAMES, NEXT_ID_KEY, ROSTER, ROSTER_VERSIONS,
    id_key, mark, under,
};
use super::side::with_span_of;
use std::ops::Bound;

const FIRST_ID: AccountId = 1;

fn encode_keys(keys: &Keys) -> Vec<u8> {
    let scram = |encoder: Encoder, keys: &ScramKeys| {
        encoder.bytes(&keys.salt).u32(keys.iterations).bytes(&keys.stored_key).bytes(&keys.server_key)
    };
    scram(scram(Encoder::new(1), &keys.sha1), &keys.sha256).done()
}

pub(super) fn decode_keys(value: &[u8]) -> Result<Keys, Failed> {
    fn scram(decoder: &mut Decoder<'_>) -> Result<ScramKeys, Failed> {
        Ok(ScramKeys {
            salt: decoder.bytes()?.into(),
            iterations: decoder.u32()?,
            stored_key: decoder.bytes()?.into(),
            server_key: decoder.bytes()?.into(),
        })
    }
    let mut decoder = Decoder::new(value, 1, "an account's credentials")?;
    let keys = Keys { sha1: scram(&mut decoder)?, sha256: scram(&mut decoder)? };
    decoder.end()?;
    Ok(keys)
}

/// An account's number and when it was made.
pub(super) fn decode_account(value: &[u8]) -> Result<(AccountId, u64), Failed> {
    let mut decoder = Decoder::new(value, 1, "an account")?;
    let account = (decoder.u64()?, decoder.u64()?);
    decoder.end()?;
    Ok(account)
}

fn decode_owner(value: &[u8]) -> Result<AccountId, Failed> {
    let mut decoder = Decoder::new(value, 1, "a certificate's owner")?;
    let id = decoder.u64()?;
    decoder.end()?;
    Ok(id)
}

impl Batch<'_> {
    /// Whether the account is there. Changes for one that is not are dropped, so that nothing is
    /// ever stored for nobody.
    pub(super) fn exists(&mut self, id: AccountId) -> Result<bool, Failed> {
        Ok(self.accounts.get(NAMES, &id_key(id))?.is_some())
    }

    fn id_of(&mut self, localpart: &str) -> Result<Option<AccountId>, Failed> {
        let value = self.accounts.get(ACCOUNTS, localpart.as_bytes())?;
        value.map(|value| decode_account(&value).map(|(id, _)| id)).transpose()
    }

    pub(super) fn name_of(&mut self, id: AccountId) -> Result<Option<Box<str>>, Failed> {
        let Some(value) = self.accounts.get(NAMES, &id_key(id))? else { return Ok(None) };
        key_text(Decoder::new(&value, 1, "an account's name")?.rest(), "an account's name").map(Some)
    }

    pub(super) fn put_keys(&mut self, id: AccountId, keys: &Keys) -> Result<(), Failed> {
        if self.exists(id)? {
            self.accounts.put(KEYS, &id_key(id), &encode_keys(keys))?;
        }
        Ok(())
    }

    /// A certificate speaks for one account: whoever claims it last has it.
    pub(super) fn put_certificate(&mut self, id: AccountId, spki: &[u8; 32]) -> Result<(), Failed> {
        if !self.exists(id)? {
            return Ok(());
        }
        if let Some(before) = self.accounts.get(CERTIFICATES, spki)? {
            let before = decode_owner(&before)?;
            if before != id {
                self.accounts.remove(CERTIFICATES_OF, &under(before, spki))?;
            }
        }
        self.accounts.put(CERTIFICATES, spki, &Encoder::new(1).u64(id).done())?;
        self.accounts.put(CERTIFICATES_OF, &under(id, spki), &mark())
    }

    pub(super) fn remove_certificate(&mut self, id: AccountId, spki: &[u8; 32]) -> Result<(), Failed> {
        if self.accounts.remove(CERTIFICATES_OF, &under(id, spki))? {
            self.accounts.remove(CERTIFICATES, spki)?;
        }
        Ok(())
    }

    pub(super) fn certificates(&mut self, id: AccountId) -> Result<Vec<[u8; 32]>, Failed> {
        let mut all = Vec::new();
        with_span_of(id, |span| {
            self.accounts.scan(CERTIFICATES_OF, span, |key, _| {
                let spki = key.get(8..).and_then(|spki| spki.try_into().ok());
                all.push(spki.ok_or(Failed::Record("a certificate of an account"))?);
                Ok(true)
            })
        })?;
        Ok(all)
    }

    pub(super) fn owner(&mut self, spki: &[u8; 32]) -> Result<Option<Box<str>>, Failed> {
        match self.accounts.get(CERTIFICATES, spki)? {
            Some(value) => self.name_of(decode_owner(&value)?),
            None => Ok(None),
        }
    }

    pub(super) fn credentials(&mut self, localpart: &str) -> Result<Answer, Failed> {
        let Some(id) = self.id_of(localpart)? else { return Ok(Answer::Credentials(None)) };
        // An account without credentials is damage, and must not look like anything else.
        let keys = self.accounts.get(KEYS, &id_key(id))?;
        let keys = decode_keys(&keys.ok_or(Failed::Record("an account's credentials"))?)?;
        Ok(Answer::Credentials(Some((id, Box::new(keys)))))
    }

    pub(super) fn account(&mut self, localpart: &str) -> Result<Option<Box<Loaded>>, Failed> {
        let Some(id) = self.id_of(localpart)? else { return Ok(None) };
        Ok(Some(Box::new(Loaded {
            id,
            version: self.roster_version(id)?,
            roster: self.roster(id)?,
            blocked: self.blocks(id)?,
            offline: self.offline_sum(id)?.waiting(),
        })))
    }

    /// The invitation is judged first, so that without a good one nobody learns who has an account
    /// here. It is spent only if the account is made.
    pub(super) fn create(
        &mut self,
        localpart: &str,
        keys: &Keys,
        token: Option<&[u8; 32]>,
        now: u64,
    ) -> Result<Result<(AccountId, Option<Invite>), Refused>, Failed> {
        let invite = match token {
            None => None,
            Some(token) => match self.invite(token, now)? {
                Some(invite) if invite.localpart.as_deref().is_none_or(|named| named == localpart) => {
                    Some((token, invite))
                }
                _ => return Ok(Err(Refused::Invite)),
            },
        };
        if self.id_of(localpart)?.is_some() {
            return Ok(Err(Refused::Exists));
        }
        if self.accounts.len(NAMES)? >= self.max_accounts {
            return Ok(Err(Refused::Full));
        }
        let id = match self.accounts.get(META, NEXT_ID_KEY)? {
            None => FIRST_ID,
            Some(value) => value
                .as_slice()
                .try_into()
                .map(u64::from_be_bytes)
                .map_err(|_| Failed::Record("the next account's number"))?,
        };
        let next = id.checked_add(1).ok_or(Failed::Record("the next account's number"))?;
        let invite = invite.map(|(token, invite)| self.spend(token, invite)).transpose()?;
        self.accounts.put(META, NEXT_ID_KEY, &next.to_be_bytes())?;
        self.accounts.put(ACCOUNTS, localpart.as_bytes(), &Encoder::new(1).u64(id).u64(now).done())?;
        self.accounts.put(NAMES, &id_key(id), &Encoder::new(1).rest(localpart.as_bytes()).done())?;
        self.accounts.put(KEYS, &id_key(id), &encode_keys(keys))?;
        Ok(Ok((id, invite)))
    }

    /// Everything goes by number, in one job: see "Which file is committed first" in `schema`.
    pub(super) fn remove_account(&mut self, localpart: &str) -> Result<bool, Failed> {
        let Some(id) = self.id_of(localpart)? else { return Ok(false) };
        for spki in self.certificates(id)? {
            self.remove_certificate(id, &spki)?;
        }
        for table in [KEYS, ROSTER, ROSTER_VERSIONS, BLOCKS] {
            self.accounts.remove_all_of(table, id)?;
        }
        self.accounts.remove(NAMES, &id_key(id))?;
        self.accounts.remove(ACCOUNTS, localpart.as_bytes())?;
        self.redo(Redo::Wipe { account: id })?;
        Ok(true)
    }

    pub(super) fn all_accounts(&mut self) -> Result<Vec<(Box<str>, AccountId, u64)>, Failed> {
        let mut all = Vec::new();
        self.accounts.scan(ACCOUNTS, (Bound::Unbounded, Bound::Unbounded), |key, value| {
            let (id, created) = decode_account(value)?;
            all.push((key_text(key, "an account's name")?, id, created));
            Ok(true)
        })?;
        Ok(all)
    }
}
