//! `[[partner]]` of `users.toml`: partners with their secrets, members and app tokens.
//!
//! Problems name places and never a secret.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::read::{checked, line, line_rule, login_rule, name_rule};
use crate::secret::Secret;
use crate::section::{Placed, SecretSource, Section, closest};
use crate::session::{Account, AppToken, HashKind, Member, Partner, Reach, canonical};

/// Shortest secret of a partner or app token, in bytes.
const SECRET: usize = 16;
/// Life of sessions unless the file says otherwise, and the longest that it may say.
const DAY: Duration = Duration::from_secs(86_400);
const TEN_YEARS: Duration = Duration::from_secs(315_360_000);

/// The people of the file, by what may name them.
pub(super) struct People<'a> {
    by_id: HashMap<&'a str, &'a Account>,
    by_name: HashMap<String, &'a Account>,
    /// By what partners who list them without a name of their own call them.
    by_puser: HashMap<String, &'a Account>,
}

impl<'a> People<'a> {
    pub(super) fn new(people: &'a [Account]) -> Self {
        let name = |account: &'a Account| canonical(&account.identifier).into_owned();
        let named = people.iter().map(|account| (name(account), account));
        let puser = |account: &'a Account| canonical(account.puser()).into_owned();
        Self {
            by_id: people.iter().map(|account| (account.id.as_str(), account)).collect(),
            by_name: named.collect(),
            by_puser: people.iter().map(|account| (puser(account), account)).collect(),
        }
    }

    pub(super) fn by_id(&self, id: &str) -> Option<&'a Account> {
        self.by_id.get(id).copied()
    }

    pub(super) fn ids(&self) -> Vec<&'a str> {
        self.by_id.keys().copied().collect()
    }

    /// The user whom `text` names by login name or id; reported when there is none.
    fn named(&self, section: &Section, text: &Placed<String>) -> Option<&'a Account> {
        let name = canonical(&text.value);
        let found = self.by_name.get(&*name).copied().or_else(|| self.by_id(&text.value));
        if found.is_none() {
            let names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
            let remedy = match closest(&name, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "name a user by login name or id".to_owned(),
            };
            section.problem_at(text, format!("there is no user `{}`", text.value), remedy);
        }
        found
    }
}

/// Reads all partners; of those with problems what could be read, to check the rest of the file. Secrets
/// that were read from files are put into `watched` as well.
pub(super) fn read_partners(
    root: &mut Section,
    people: &People<'_>,
    watched: &mut Vec<SecretSource>,
) -> BTreeMap<String, Partner> {
    let mut partners = BTreeMap::new();
    for mut section in root.tables("partner") {
        let Some(id) = checked(&mut section, "id", "100", name_rule) else {
            // The keys are known all the same.
            read_partner(&mut section, String::new(), people, watched);
            continue;
        };
        let partner = read_partner(&mut section, id.value.clone(), people, watched);
        if partners.insert(id.value.clone(), partner).is_some() {
            let what = format!("the partner `{}` is declared twice", id.value);
            section.problem_at(&id, what, "give one of the two another id");
        }
    }
    partners
}

fn read_partner(
    section: &mut Section,
    id: String,
    people: &People<'_>,
    watched: &mut Vec<SecretSource>,
) -> Partner {
    let reach = reach(section);
    Partner {
        id,
        name: line(section, "name"),
        email: line(section, "email"),
        website: line(section, "website"),
        disabled: section.flag("disabled", false),
        admin_secrets: secrets(section, "admin_secrets", watched),
        user_secrets: secrets(section, "user_secrets", watched),
        members: members(section, people, reach),
        roles: roles(section),
        reach,
        lifetime: lifetime(section),
        offline: section.flag("offline", false),
        ks_v1: section.flag("ks_v1", false),
        widgets: section.flag("widgets", false),
        app_tokens: app_tokens(section, people, watched),
    }
}

fn secrets(
    section: &mut Section,
    key: &'static str,
    watched: &mut Vec<SecretSource>,
) -> Vec<Secret> {
    let found = section.secrets(key);
    for secret in &found {
        if secret.value.secret.expose().len() < SECRET {
            let what = format!("`{key}` holds a secret that is too short");
            section.problem_at(secret, what, longer());
        }
        watched.extend(secret.value.file.is_some().then(|| secret.value.clone()));
    }
    found.into_iter().map(|secret| secret.value.secret).collect()
}

fn longer() -> String {
    format!("use at least {SECRET} random characters: openssl rand -hex 16")
}

fn roles(section: &mut Section) -> Vec<String> {
    let roles = section.texts("roles");
    for role in &roles {
        if let Err(remedy) = role_rule(&role.value) {
            section.problem_at(role, format!("a role cannot be {:?}", role.value), remedy);
        }
    }
    roles.into_iter().map(|role| role.value).collect()
}

/// Roles become privileges, which are lists with commas.
fn role_rule(role: &str) -> Result<(), &'static str> {
    if role.is_empty() || role.contains(',') || line_rule(role).is_err() {
        return Err("use 1 to 512 bytes without commas and control characters");
    }
    Ok(())
}

fn reach(section: &mut Section) -> Reach {
    let words =
        [("members", Reach::Members), ("guests", Reach::Guests), ("everybody", Reach::Everybody)];
    word(section, "reach", &words).unwrap_or_default()
}

/// One of several words.
fn word<T: Copy>(section: &mut Section, key: &'static str, words: &[(&str, T)]) -> Option<T> {
    let text = section.text(key)?;
    let found = words.iter().find(|(word, _)| *word == text.value);
    if found.is_none() {
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let remedy = match closest(&text.value, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("use one of {}", known.join(", ")),
        };
        section.problem_at(&text, format!("`{key}` cannot be {:?}", text.value), remedy);
    }
    found.map(|(_, value)| *value)
}

fn lifetime(section: &mut Section) -> Duration {
    section.duration("lifetime", DAY, Duration::from_secs(1)..=TEN_YEARS)
}

fn members(section: &mut Section, people: &People<'_>, reach: Reach) -> BTreeMap<String, Member> {
    let (mut members, mut aliased) = (BTreeMap::new(), Vec::new());
    // The partner's ids of its users, as they are compared.
    let mut taken: HashMap<String, String> = HashMap::new();
    for mut table in section.tables("member") {
        let user = table.required("user", "alice");
        let alias = table.text("alias");
        let member = Member {
            alias: alias.as_ref().map(|alias| alias.value.clone()).unwrap_or_default(),
            role: line(&mut table, "role"),
            admin: table.flag("admin", false),
            privileges: privileges(&mut table),
        };
        if let Some(alias) = &alias
            && let Err(remedy) = login_rule(&alias.value)
        {
            table.problem_at(alias, format!("`alias` cannot be {:?}", alias.value), remedy);
        }
        if user.value.is_empty() {
            continue;
        }
        let Some(account) = people.named(&table, &user) else { continue };
        let place = alias.as_ref().unwrap_or(&user);
        let puser = member.puser(account).to_owned();
        if let Some(first) =
            taken.insert(canonical(&puser).into_owned(), account.identifier.clone())
            && first != account.identifier
        {
            let what = format!("`{puser}` is the id of `{first}` in this partner already");
            table.problem_at(place, what, "give one of the two another `alias`");
        }
        aliased.extend(alias);
        if members.insert(account.id.clone(), member).is_some() {
            let what = format!("`{}` is a member already", user.value);
            table.problem_at(&user, what, "keep one of the two `[[partner.member]]` tables");
        }
    }
    // Whom it reaches without listing them, it calls as the directory does.
    for alias in aliased.iter().filter(|_| reach == Reach::Everybody) {
        let other = people.by_puser.get(&*canonical(&alias.value));
        if let Some(other) = other.filter(|other| !members.contains_key(&other.id)) {
            let what = format!(
                "the alias `{}` is what everybody calls `{}`",
                alias.value, other.identifier
            );
            section.problem_at(alias, what, "choose another, or a narrower `reach`");
        }
    }
    members
}

fn privileges(section: &mut Section) -> Option<String> {
    let given = section.has("privileges");
    let privileges = line(section, "privileges");
    given.then_some(privileges)
}

fn app_tokens(
    section: &mut Section,
    people: &People<'_>,
    watched: &mut Vec<SecretSource>,
) -> BTreeMap<String, AppToken> {
    let hashes = [
        ("md5", HashKind::Md5),
        ("sha1", HashKind::Sha1),
        ("sha256", HashKind::Sha256),
        ("sha512", HashKind::Sha512),
    ];
    let mut tokens = BTreeMap::new();
    for mut table in section.tables("app_token") {
        let id = checked(&mut table, "id", "1_app", name_rule);
        let token = app_secret(&mut table, watched);
        let user = table.text("user").and_then(|user| people.named(&table, &user));
        let read = AppToken {
            id: id.as_ref().map(|id| id.value.clone()).unwrap_or_default(),
            token,
            hash: word(&mut table, "hash", &hashes).unwrap_or_default(),
            user: user.map(|account| account.id.clone()).unwrap_or_default(),
            admin: table.flag("admin", false),
            privileges: line(&mut table, "privileges"),
            lifetime: lifetime(&mut table),
            expires: table.parsed("expires", "2030-01-31T00:00:00Z").map(|at| at.value),
            disabled: table.flag("disabled", false),
        };
        let Some(id) = id else { continue };
        if tokens.insert(id.value.clone(), read).is_some() {
            let what = format!("the app token `{}` is declared twice", id.value);
            table.problem_at(&id, what, "give one of the two another id");
        }
    }
    tokens
}

fn app_secret(table: &mut Section, watched: &mut Vec<SecretSource>) -> Secret {
    let source = table.secret_source("token");
    if !table.has("token") {
        table.problem("token", "the app token has no `token`", "add `token = \"...\"`");
    }
    let Some(source) = source else { return Secret::new(String::new()) };
    if source.secret.expose().len() < SECRET {
        table.problem("token", "`token` is too short", longer());
    }
    let secret = source.secret.clone();
    watched.extend(source.file.is_some().then_some(source));
    secret
}
