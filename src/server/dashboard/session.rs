//! Who speaks through the dashboard: links that are good once, and the sessions that they become.
//!
//! ```text
//! `skiff up`, `skiff open` ──► link (in the URL's fragment, which no server sees) ──POST──► session (a cookie no script reads)
//! ```
//!
//! **Invariants**
//! - A link works once, and for [`LINK_SECS`]. A session ends after [`SESSION_SECS`].
//! - A session says for whom it is: one of another identity, or of another cluster, is none.
//! - Sessions are signed and not kept, so that they outlive the control plane's process, as containers do.

use crate::base::{clock::Clock, ordered::Map};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long a link is good.
pub(super) const LINK_SECS: i64 = 3600;
/// How long a session is good.
pub(super) const SESSION_SECS: i64 = 12 * 3600;
/// Links that are out at a time; one more makes the oldest void.
const LINKS_MAX: usize = 64;

/// The links that are out, and the key of sessions.
pub(super) struct Sessions {
    key: hmac::Key,
    /// For whom sessions are.
    user: String,
    clock: Clock,
    /// Until when each link is good, in seconds since 1970.
    links: Mutex<Map<String, i64>>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Sessions of a user, signed by a key that is made of the cluster's secret.
    pub(super) fn new(secret: &[u8], user: &str, clock: Clock) -> Self {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"skiff: sessions of the dashboard");
        let key = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        Self { key, user: user.to_owned(), clock, links: Mutex::default() }
    }

    /// A new link's token.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub(super) fn link(&self) -> Result<String, ring::error::Unspecified> {
        let (token, now) = (random()?, self.now());
        let mut links = self.links();
        links.retain(|_, until| *until > now);
        if links.len() >= LINKS_MAX {
            let oldest = links.iter().min_by_key(|(_, until)| **until).map(|(token, _)| token.clone());
            oldest.and_then(|token| links.remove(&token));
        }
        links.insert(token.clone(), now + LINK_SECS);
        Ok(token)
    }

    /// A session for a link's token, which is void from now on. `None`: it is void already, or no link's.
    pub(super) fn open(&self, token: &str) -> Option<String> {
        let now = self.now();
        self.links().remove(token).filter(|until| *until > now)?;
        let claims = format!("{}.{}", now + SESSION_SECS, random().ok()?);
        let signature = hmac::sign(&self.key, self.signed(&claims).as_bytes());
        Some(format!("{claims}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Whether a session is one of ours, and not over.
    pub(super) fn holds(&self, session: &str) -> bool {
        let Some((claims, signature)) = session.rsplit_once('.') else { return false };
        let until = claims.split('.').next().and_then(|until| until.parse::<i64>().ok());
        let Ok(signature) = BASE64_URL_SAFE_NO_PAD.decode(signature) else { return false };
        hmac::verify(&self.key, self.signed(claims).as_bytes(), &signature).is_ok()
            && until.is_some_and(|until| until > self.now())
    }

    fn signed(&self, claims: &str) -> String {
        format!("{}\n{claims}", self.user)
    }

    fn now(&self) -> i64 {
        self.clock.now().as_second()
    }

    fn links(&self) -> MutexGuard<'_, Map<String, i64>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing that can be guessed: 192 bits.
fn random() -> Result<String, ring::error::Unspecified> {
    let mut bytes = [0u8; 24];
    SystemRandom::new().fill(&mut bytes)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn of(secret: &str, user: &str) -> Sessions {
        Sessions::new(secret.as_bytes(), user, Clock::simulated("2026-01-01T00:00:00Z".parse().unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_is_good_once_and_for_an_hour() {
        let sessions = of("k", "admin");
        let link = sessions.link().unwrap();
        assert!(sessions.open("").is_none() && sessions.open("guess").is_none());
        assert!(sessions.holds(&sessions.open(&link).unwrap()));
        assert_eq!(sessions.open(&link), None, "once");
        let late = sessions.link().unwrap();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(sessions.open(&late), None, "an hour");
    }

    #[tokio::test(start_paused = true)]
    async fn links_that_nobody_uses_do_not_pile_up() {
        let sessions = of("k", "admin");
        let first = sessions.link().unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let others: Vec<String> = (0..LINKS_MAX).map(|_| sessions.link().unwrap()).collect();
        assert_eq!(sessions.links().len(), LINKS_MAX);
        assert!(sessions.open(&first).is_none() && sessions.open(&others[0]).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_its_own_and_ends() {
        let sessions = of("k", "admin");
        let session = sessions.open(&sessions.link().unwrap()).unwrap();
        assert!(of("k", "admin").holds(&session), "another process of the same cluster");
        assert!(!of("k", "view").holds(&session), "another identity");
        assert!(!of("other", "admin").holds(&session), "another cluster");
        let later = session.replacen("176", "276", 1);
        assert_ne!(later, session);
        assert!(!sessions.holds(&later) && !sessions.holds("") && !sessions.holds("a.b.c"), "what was not signed");
        tokio::time::advance(Duration::from_secs(12 * 3600)).await;
        assert!(!sessions.holds(&session), "it is over");
    }
}
