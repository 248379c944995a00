//! The Nuvla dialect: paths, forms, JSON and searches from anyone. Answers are JSON, tell no password, lead
//! nowhere; another site's page changes no session.

/// Words of requests.
pub const WORDS: &[&str] = &[
    "POST /session\n",
    "PUT /session\n",
    "GET /session?",
    "DELETE /session/",
    "GET /session/",
    "POST /session/x/switch-group\n",
    "/get-groups",
    "/get-peers",
    "GET /session-template/",
    "PUT /session-template\n",
    "GET /cloud-entry-point",
    "OPTIONS /session",
    "\nsigned-in: 1\n",
    "\norigin: https://app.example.com\n",
    "\norigin: https://evil.example\n",
    "\nsec-fetch-site: cross-site\n",
    "\ncontent-type: application/json\n",
    "\ncontent-type: application/x-www-form-urlencoded\n",
    "\ncontent-encoding: gzip\n",
    "\n\n",
    "{\"template\":{\"href\":\"session-template/password\",\"username\":\"alice\",\"password\":\"fuzz-canary\"}}",
    "{\"template\":{\"href\":\"session-template/api-key\",\"key\":\"credential/x\",\"secret\":\"fuzz-canary\"}}",
    "{\"claim\":\"group/staff\",\"extended\":true}",
    "href=session-template/password",
    "username=alice",
    "password=fuzz-canary",
    "first=1",
    "last=0",
    "filter=",
    "&",
    "=",
    "%00",
    "%",
    "{",
    "}",
    "\"",
    "\\u0000",
    ":",
    ",",
    "session/",
    "00000000-0000-4000-8000-000000000000",
];

/// See the head of this file.
pub fn run(data: &[u8]) {
    crate::asked::run("nuvla", data);
}
