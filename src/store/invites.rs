//! Invitations (XEP-0401), under the hash of their token.

use super::batch::Batch;
use super::change::Invite;
use super::failed::Failed;
use super::record::{Decoder, Encoder};
use super::schema::INVITES;
use std::ops::Bound;

/// How long a void invitation is kept before a new one sweeps it out: long enough that a clock
/// which was wrong for a while does no harm.
const GRACE_SECONDS: u64 = 30 * 24 * 3600;

fn encode(invite: &Invite) -> Vec<u8> {
    Encoder::new(1)
        .u64(invite.created)
        .u64(invite.expires)
        .u32(invite.uses)
        .option(invite.inviter.as_deref().map(str::as_bytes))
        .option(invite.localpart.as_deref().map(str::as_bytes))
        .done()
}

pub(super) fn decode(value: &[u8]) -> Result<Invite, Failed> {
    let mut decoder = Decoder::new(value, 1, "an invitation")?;
    let invite = Invite {
        created: decoder.u64()?,
        expires: decoder.u64()?,
        uses: decoder.u32()?,
        inviter: decoder.option(Decoder::text)?.map(Box::from),
        localpart: decoder.option(Decoder::text)?.map(Box::from),
    };
    decoder.end()?;
    Ok(invite)
}

impl Batch<'_> {
    pub(super) fn put_invite(&mut self, token: &[u8; 32], invite: &Invite) -> Result<(), Failed> {
        let mut void: Vec<Vec<u8>> = Vec::new();
        self.accounts.scan(INVITES, (Bound::Unbounded, Bound::Unbounded), |key, value| {
            if decode(value)?.expires.saturating_add(GRACE_SECONDS) < invite.created {
                void.push(key.into());
            }
            Ok(true)
        })?;
        for key in void {
            self.accounts.remove(INVITES, &key)?;
        }
        self.accounts.put(INVITES, token, &encode(invite))
    }

    /// Only one that is still good.
    pub(super) fn invite(&mut self, token: &[u8; 32], now: u64) -> Result<Option<Invite>, Failed> {
        let Some(value) = self.accounts.get(INVITES, token)? else { return Ok(None) };
        let invite = decode(&value)?;
        Ok((invite.uses > 0 && now <= invite.expires).then_some(invite))
    }

    /// Takes one use away; the invitation as it is afterwards.
    pub(super) fn spend(&mut self, token: &[u8; 32], mut invite: Invite) -> Result<Invite, Failed> {
        invite.uses = invite.uses.saturating_sub(1);
        if invite.uses == 0 {
            self.accounts.remove(INVITES, token)?;
        } else {
            self.accounts.put(INVITES, token, &encode(&invite))?;
        }
        Ok(invite)
    }
}
