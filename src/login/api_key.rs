//! Login by the id and secret of an API key: one hash and one comparison, whatever was named.

use std::fmt;
use std::future::ready;
use std::io;
use std::sync::Arc;

use super::{Context, Kind, Plan};
use crate::clock::Clock;
use crate::secret::Secret;
use crate::secret::random;
use crate::section::Section;
use crate::session::{
    BoxFuture, CREDENTIAL, Credentials, Directory, Key, KeySecret, LoginError, Method, Proven,
    SecretHash, account_of,
};

/// The registration.
pub(super) static KIND: Kind = Kind { name: "api_key", read };

/// Name in records and lists of methods.
const NAME: &str = "api-key";

/// The `[login.api_key]` table.
#[derive(Clone, Copy, Debug)]
struct Settings;

fn read(section: &mut Section) -> Option<Arc<dyn Plan>> {
    section.flag("enabled", true).then(|| Arc::new(Settings) as Arc<dyn Plan>)
}

impl Plan for Settings {
    fn start(&self, context: &Context) -> io::Result<Box<dyn Method>> {
        let directory = Arc::clone(&context.directory);
        Ok(Box::new(ApiKey::new(directory, context.clock.clone())?))
    }
}

/// The method.
pub struct ApiKey {
    directory: Arc<dyn Directory>,
    clock: Clock,
    /// Of a secret that nobody has.
    nobodys: SecretHash,
}

impl ApiKey {
    /// The method over the keys of `directory`.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn new(directory: Arc<dyn Directory>, clock: Clock) -> io::Result<Self> {
        let nobodys = SecretHash::of(&random::<32>().map_err(io::Error::other)?);
        Ok(Self { directory, clock, nobodys })
    }

    /// The key with this id and secret, unless it or its owner may not be used. The secrets hold 174
    /// random bits, so that a plain hash keeps them as well as a slow one.
    fn check(&self, id: &str, secret: &Secret) -> Result<Arc<Key>, LoginError> {
        let secret = KeySecret::parse(secret.expose()).ok_or(LoginError::Invalid)?;
        let key = self.directory.key(id.strip_prefix(CREDENTIAL).unwrap_or(id));
        let known = key.as_ref().map_or(self.nobodys, |key| key.hash);
        let right = secret.hash().matches(&known);
        let key = key.filter(|_| right).ok_or(LoginError::Invalid)?;
        let owner = account_of(&key.owner.record(), &*self.directory);
        if owner.is_none() || !key.is_live(self.clock.now()) {
            return Err(LoginError::Invalid);
        }
        Ok(key)
    }
}

impl Method for ApiKey {
    fn name(&self) -> &'static str {
        NAME
    }

    fn verify<'a>(
        &'a self,
        credentials: &'a Credentials,
    ) -> BoxFuture<'a, Result<Proven, LoginError>> {
        let proven = match credentials {
            Credentials::ApiKey { id, secret } => self.check(id, secret).map(Proven::Key),
            Credentials::Password { .. } => Err(LoginError::Unsupported),
        };
        Box::pin(ready(proven))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}
