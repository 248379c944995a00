//! The Versal dialect: paths and bodies from anyone. Answers are JSON, tell no password, lead nowhere;
//! another site's page changes no session.

/// Words of requests.
pub const WORDS: &[&str] = &[
    "POST /signin\n",
    "POST /signin/",
    "POST /signout\n",
    "POST /sessions\n",
    "GET /session\n",
    "GET /user\n",
    "POST /user/1001/partnerkey\n",
    "DELETE /users/1001/partnerkey\n",
    "\nsigned-in: 1\n",
    "\nsid: 00000000-0000-4000-8000-000000000000\n",
    "\norigin: https://app.example.com\n",
    "\norigin: https://evil.example\n",
    "\nsec-fetch-site: cross-site\n",
    "\ncontent-type: application/json\n",
    "\n\n",
    "{\"email\":\"alice@example.org\",\"password\":\"fuzz-canary\"}",
    "{\"password\":\"fuzz-canary\"}",
    "{\"userId\":\"1001\"}",
    "{\"userId\":1001}",
    "{\"userId\":{\"email\":\"a@example.org\"}}",
    "{",
    "}",
    "[",
    "\"",
    "\\u0000",
    "\\ud800",
    ":",
    ",",
    "1e999",
    "%2f",
    "%00",
    "/",
];

/// See the head of this file.
pub fn run(data: &[u8]) {
    crate::asked::run("versal", data);
}
