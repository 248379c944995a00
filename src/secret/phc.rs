//! Password hashes: makes argon2id strings, reads and checks those of other systems too.
//!
//! Knows no users and no files. A password is taken as the bytes it came in: no Unicode
//! normalisation, no trimming, no truncation (but see [`PasswordHash::cuts`]).

use std::fmt;

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use zeroize::Zeroizing;

use super::{Secret, random, same};

/// Most memory that one check of a stored hash may take, in KiB.
const MEMORY_KIB: u32 = 1 << 20;
/// Most passes of a stored argon2 hash.
const PASSES: u32 = 16;
/// Most lanes of a stored argon2 or scrypt hash.
const LANES: u32 = 16;
/// Highest cost of a stored bcrypt hash.
const BCRYPT_COST: u32 = 16;
/// Highest log2(N) of a stored scrypt hash.
const SCRYPT_LOG_N: u8 = 20;
/// Bytes of a password that bcrypt looks at.
const BCRYPT_BYTES: usize = 72;
/// Bytes of a new hash, and of its salt.
const OUTPUT: usize = 32;
const SALT: usize = 16;

/// What a new argon2id hash costs (RFC 9106 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// Memory in KiB, `m`.
    pub memory_kib: u32,
    /// Passes over the memory, `t`.
    pub passes: u32,
    /// Lanes, `p`.
    pub lanes: u32,
}

impl Default for Costs {
    /// The first choice of the OWASP Password Storage Cheat Sheet: 19 MiB, 2 passes, 1 lane.
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}

/// Why no hash could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The operating system gives no randomness for the salt.
    #[error("the operating system gives no randomness")]
    Randomness,
    /// The costs are outside what argon2 allows, or there is not enough memory.
    #[error("argon2 cannot work with these costs: {0}")]
    Costs(argon2::Error),
    /// The result is not a PHC string; does not happen with lengths as used here.
    #[error("the hash cannot be written as a PHC string")]
    Form,
}

/// An argon2id hash of `password` as a PHC string, with a random 128-bit salt.
///
/// Takes `costs`' time and memory: never call it on a worker.
///
/// # Errors
/// See [`HashError`].
pub fn hash_password(password: &Secret, costs: &Costs) -> Result<Secret, HashError> {
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params(costs)?);
    let salt = random::<SALT>().map_err(|_| HashError::Randomness)?;
    let hash: phc::PasswordHash = hasher
        .hash_password_with_salt(password.expose().as_bytes(), &salt)
        .map_err(|_| HashError::Form)?;
    Ok(Secret::new(hash.to_string()))
}

fn params(costs: &Costs) -> Result<Params, HashError> {
    Params::new(costs.memory_kib, costs.passes, costs.lanes, Some(OUTPUT)).map_err(HashError::Costs)
}

/// A stored hash that can be checked: argon2 (all three), scrypt as PHC strings, bcrypt in its own
/// form (`$2a$`, `$2b$`, `$2y$`).
pub struct PasswordHash(Form);

enum Form {
    Argon2 { algorithm: Algorithm, version: Version, params: Params, salt: Vec<u8>, out: Vec<u8> },
    Bcrypt(Zeroizing<String>),
    Scrypt { params: scrypt::Params, salt: Vec<u8>, out: Vec<u8> },
}

impl PasswordHash {
    /// Reads a stored hash. Its own parameters decide what a check costs, so they are bounded: argon2
    /// and scrypt to 1 GiB, argon2 to 16 passes and lanes, bcrypt to cost 16.
    ///
    /// # Errors
    /// A half sentence that says what is wrong, without the hash.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("$2") {
            return bcrypt_form(text).map(Self);
        }
        let hash = phc::PasswordHash::new(text)
            .map_err(|_| "is not a PHC string such as `$argon2id$v=19$m=19456,t=2,p=1$...`")?;
        let (Some(salt), Some(out)) = (hash.salt, hash.hash) else {
            return Err("has no salt or no hash part".to_owned());
        };
        let (salt, out) = (salt.as_ref().to_vec(), out.as_bytes().to_vec());
        match hash.algorithm.as_str() {
            "argon2id" | "argon2i" | "argon2d" => argon2_form(&hash, salt, out).map(Self),
            "scrypt" => {
                let params = scrypt_params(&hash)?;
                Ok(Self(Form::Scrypt { params, salt, out }))
            }
            other => Err(format!("uses `{other}`; known are argon2id, argon2i, argon2d, scrypt")),
        }
    }

    /// The hash of a password that nobody has: random bytes, made in no time. To check a password
    /// against it costs what `costs` say, and none is right.
    ///
    /// # Errors
    /// See [`HashError`].
    pub fn of_nobody(costs: &Costs) -> Result<Self, HashError> {
        let params = params(costs)?;
        let (salt, out) = (random::<SALT>(), random::<OUTPUT>());
        let (Ok(salt), Ok(out)) = (salt, out) else { return Err(HashError::Randomness) };
        let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
        let (salt, out) = (salt.to_vec(), out.to_vec());
        Ok(Self(Form::Argon2 { algorithm, version, params, salt, out }))
    }

    /// Whether `password` is the one; takes the time and memory that the hash asks for.
    ///
    /// # Errors
    /// [`HashError::Costs`] when there is not enough memory: nothing is known of the password then.
    pub fn verify(&self, password: &Secret) -> Result<bool, HashError> {
        let password = password.expose().as_bytes();
        Ok(match &self.0 {
            Form::Argon2 { algorithm, version, params, salt, out } => {
                let hasher = Argon2::new(*algorithm, *version, params.clone());
                let mut made = Zeroizing::new(vec![0; out.len()]);
                hasher.hash_password_into(password, salt, &mut made).map_err(HashError::Costs)?;
                same(&made, out)
            }
            Form::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
            Form::Scrypt { params, salt, out } => {
                let mut made = Zeroizing::new(vec![0; out.len()]);
                scrypt::scrypt(password, salt, params, &mut made).is_ok() && same(&made, out)
            }
        })
    }

    /// Whether a new hash made with `costs` would be of this kind: otherwise it is due for a new one.
    pub fn is_current(&self, costs: &Costs) -> bool {
        let Form::Argon2 { algorithm, version, params, salt, out } = &self.0 else { return false };
        *algorithm == Algorithm::Argon2id
            && *version == Version::V0x13
            && params.m_cost() == costs.memory_kib
            && params.t_cost() == costs.passes
            && params.p_cost() == costs.lanes
            && params.data().is_empty()
            && salt.len() >= SALT
            && out.len() >= OUTPUT
    }

    /// Whether the check looks at a part of `password` only: bcrypt ignores what follows the 72nd
    /// byte, as the system did that made the hash. A hash of the whole would shut out somebody who
    /// has always typed another ending, so such a password is not hashed anew.
    pub fn cuts(&self, password: &Secret) -> bool {
        matches!(self.0, Form::Bcrypt(_)) && password.expose().len() > BCRYPT_BYTES
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Form::Argon2 { algorithm, .. } => algorithm.as_str(),
            Form::Bcrypt(_) => "bcrypt",
            Form::Scrypt { .. } => "scrypt",
        })
    }
}

fn argon2_form(hash: &phc::PasswordHash, salt: Vec<u8>, out: Vec<u8>) -> Result<Form, String> {
    let algorithm =
        Algorithm::new(hash.algorithm.as_str()).map_err(|_| "is not argon2".to_owned())?;
    // No version field means 1.0: the field came with 1.3.
    let version = Version::try_from(hash.version.unwrap_or(0x10))
        .map_err(|_| "has an unknown argon2 version; known are v=16 and v=19".to_owned())?;
    let params = Params::try_from(hash).map_err(|_| "has bad argon2 parameters".to_owned())?;
    if params.m_cost() > MEMORY_KIB || params.t_cost() > PASSES || params.p_cost() > LANES {
        let most = format!("m={MEMORY_KIB},t={PASSES},p={LANES}");
        return Err(format!("costs too much to check; at most {most}"));
    }
    Ok(Form::Argon2 { algorithm, version, params, salt, out })
}

fn scrypt_params(hash: &phc::PasswordHash) -> Result<scrypt::Params, String> {
    if hash.version.is_some() {
        return Err("has a version, which scrypt does not know".to_owned());
    }
    let mut known = [("ln", 17), ("r", 8), ("p", 1)];
    for (name, value) in hash.params.iter() {
        let slot = known.iter_mut().find(|(known, _)| *known == name.as_str());
        let (Some(slot), Ok(value)) = (slot, value.decimal()) else {
            return Err("has bad scrypt parameters; known are ln, r and p".to_owned());
        };
        slot.1 = value;
    }
    let [(_, log_n), (_, r), (_, p)] = known;
    // Bounded before the crate multiplies them.
    let log_n = u8::try_from(log_n).ok().filter(|log_n| (1..=SCRYPT_LOG_N).contains(log_n));
    let memory = log_n.and_then(|log_n| u64::from(r).checked_mul(128 << log_n));
    match (log_n, memory) {
        (Some(log_n), Some(memory))
            if memory <= u64::from(MEMORY_KIB) << 10 && (1..=LANES).contains(&p) =>
        {
            scrypt::Params::new(log_n, r, p).map_err(|_| "has bad scrypt parameters".to_owned())
        }
        _ => Err(format!(
            "costs too much to check; at most ln={SCRYPT_LOG_N}, p={LANES} and 1 GiB (128 * r * 2^ln)"
        )),
    }
}

fn bcrypt_form(text: &str) -> Result<Form, String> {
    let mut fields = text.split('$').skip(1);
    let (kind, cost) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
    if !matches!(kind, "2a" | "2b" | "2y") {
        return Err(format!("uses bcrypt `{kind}`; known are 2a, 2b and 2y"));
    }
    match cost.parse::<u32>() {
        Ok(number) if (4..=BCRYPT_COST).contains(&number) && !cost.starts_with('+') => {}
        Ok(_) => return Err(format!("has a bcrypt cost outside 4 to {BCRYPT_COST}")),
        Err(_) => return Err("is not a bcrypt hash".to_owned()),
    }
    match text.parse::<bcrypt::HashParts>() {
        Ok(_) => Ok(Form::Bcrypt(Zeroizing::new(text.to_owned()))),
        Err(_) => Err("is not a bcrypt hash of 60 characters".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Costs = Costs { memory_kib: 16, passes: 1, lanes: 1 };

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn parse(text: &str) -> PasswordHash {
        PasswordHash::parse(text).unwrap_or_else(|reason| panic!("{text} {reason}"))
    }

    #[test]
    fn a_new_hash_opens_with_its_password_only() {
        let made = hash_password(&secret("pässwörd"), &CHEAP).unwrap();
        assert!(made.expose().starts_with("$argon2id$v=19$m=16,t=1,p=1$"), "{}", made.expose());
        let hash = parse(made.expose());
        assert!(hash.verify(&secret("pässwörd")).unwrap());
        assert!(!hash.verify(&secret("pässworD")).unwrap());
        assert!(!hash.verify(&secret("")).unwrap());
        assert!(hash.is_current(&CHEAP));
        assert!(!hash.is_current(&Costs::default()));
        let again = hash_password(&secret("pässwörd"), &CHEAP).unwrap();
        assert_ne!(made.expose(), again.expose(), "every hash has its own salt");
    }

    #[test]
    fn nobodys_hash_costs_as_much_as_any_and_opens_with_nothing() {
        let hash = PasswordHash::of_nobody(&CHEAP).unwrap();
        assert!(hash.is_current(&CHEAP), "the same algorithm, costs and lengths");
        for password in ["", "password"] {
            assert!(!hash.verify(&secret(password)).unwrap());
        }
        let none = Costs { memory_kib: 0, ..CHEAP };
        assert!(matches!(PasswordHash::of_nobody(&none), Err(HashError::Costs(_))));
    }

    #[test]
    fn long_passwords_count_to_their_last_byte() {
        let long = "𝔘".repeat(256);
        let hash = parse(hash_password(&secret(&long), &CHEAP).unwrap().expose());
        assert!(hash.verify(&secret(&long)).unwrap());
        assert!(!hash.verify(&secret(&format!("{}𝔙", "𝔘".repeat(255)))).unwrap());
    }

    /// Vectors: the reference `argon2` tool's test file, passlib's documentation, jBCrypt's tests.
    #[test]
    fn hashes_of_other_systems_are_checked() {
        let known = [
            (
                "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
                "password",
            ),
            (
                "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8",
                "password",
            ),
            (
                "$argon2i$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY",
                "password",
            ),
            (
                "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
                "password",
            ),
            ("$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe", "a"),
            ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"),
        ];
        for (text, password) in known {
            let hash = parse(text);
            assert!(hash.verify(&secret(password)).unwrap(), "{text}");
            assert!(!hash.verify(&secret("wrong")).unwrap(), "{text}");
            assert!(!hash.is_current(&Costs::default()), "{text}");
        }
    }

    #[test]
    fn bcrypt_reads_72_bytes_and_says_so() {
        let text = bcrypt::hash("x".repeat(72), 4).unwrap();
        for prefix in ["$2a$", "$2b$", "$2y$"] {
            let hash = parse(&format!("{prefix}{}", text.get(4..).unwrap()));
            assert!(hash.verify(&secret(&"x".repeat(73))).unwrap());
            assert!(hash.cuts(&secret(&"x".repeat(73))));
            assert!(!hash.cuts(&secret(&"x".repeat(72))));
        }
    }

    #[test]
    fn what_cannot_be_checked_safely_is_refused() {
        let salted =
            |head: &str| format!("{head}$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4");
        for (text, reason) in [
            (String::new(), "not a PHC"),
            ("secret".to_owned(), "not a PHC"),
            ("$argon2id$v=19$m=256,t=2,p=1".to_owned(), "no salt"),
            (salted("$argon2id$v=19$m=1048577,t=2,p=1"), "too much"),
            (salted("$argon2id$v=19$m=4294967295,t=2,p=4294967295"), "bad argon2"),
            (salted("$argon2id$v=19$m=256,t=17,p=1"), "too much"),
            (salted("$argon2id$v=19$m=256,t=2,p=17"), "too much"),
            (salted("$argon2id$v=18$m=256,t=2,p=1"), "version"),
            (salted("$argon2x$v=19$m=256,t=2,p=1"), "argon2x"),
            (salted("$pbkdf2-sha256$i=1000"), "pbkdf2"),
            (salted("$scrypt$ln=21,r=8,p=1"), "too much"),
            (salted("$scrypt$ln=20,r=4294967295,p=1"), "too much"),
            (salted("$scrypt$ln=4,r=8,p=4294967295"), "too much"),
            (salted("$scrypt$ln=4,r=0,p=1"), "bad scrypt"),
            (salted("$scrypt$ln=4,q=1"), "bad scrypt"),
            ("$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".into(), "2x"),
            ("$2a$17$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".into(), "cost"),
            ("$2a$+5$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".into(), "cost"),
            ("$2a$05$ééé".into(), "60 characters"),
            ("$2".into(), "known are"),
        ] {
            let error = PasswordHash::parse(&text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\$(2[aby]|argon2id|scrypt)\\$[ -~é]{0,80}") {
            let _ = PasswordHash::parse(&text);
        }
    }
}
