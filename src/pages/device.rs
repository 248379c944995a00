//! A name for a device that a person recognises, from its `User-Agent`.
//!
//! It must not be used to decide anything: the header says what its sender likes.

/// Longest part of a `User-Agent` that is looked at, in bytes.
const LOOKED_AT: usize = 512;

/// Programs by the token they send, most telling first: most browsers also claim to be Chrome and
/// Safari.
const PROGRAMS: [(&str, &str); 36] = [
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("Edge/", "Edge"),
    ("OPR/", "Opera"),
    ("OPT/", "Opera"),
    ("Vivaldi/", "Vivaldi"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("YaBrowser/", "Yandex Browser"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("HeadlessChrome/", "Headless Chrome"),
    ("CriOS/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("Trident/", "Internet Explorer"),
    ("curl/", "curl"),
    ("Wget/", "Wget"),
    ("HTTPie/", "HTTPie"),
    ("PostmanRuntime/", "Postman"),
    ("insomnia/", "Insomnia"),
    ("python-requests/", "Python"),
    ("python-httpx/", "Python"),
    ("Python-urllib/", "Python"),
    ("aiohttp/", "Python"),
    ("Go-http-client/", "Go program"),
    ("okhttp/", "OkHttp"),
    ("Apache-HttpClient/", "Java"),
    ("Java/", "Java"),
    ("axios/", "Node.js"),
    ("node", "Node.js"),
    ("undici", "Node.js"),
    ("git/", "Git"),
    ("reqwest/", "Rust program"),
];

/// Systems by a word of theirs, most telling first: Android also says Linux, an iPhone "like Mac
/// OS X".
const SYSTEMS: [(&str, &str); 12] = [
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "iOS"),
    ("iPad", "iPadOS"),
    ("iPod", "iOS"),
    ("CrOS", "ChromeOS"),
    ("Macintosh", "macOS"),
    ("Darwin", "macOS"),
    ("Linux", "Linux"),
    ("linux", "Linux"),
    ("FreeBSD", "FreeBSD"),
    ("OpenBSD", "OpenBSD"),
];

/// `"Firefox on Linux"` for a `User-Agent` value; `"Unknown device"` when it tells nothing.
///
/// The answer is made of fixed words only, so it is short and safe whatever the client sent.
#[must_use]
pub fn device_name(user_agent: &str) -> String {
    let end = user_agent.floor_char_boundary(LOOKED_AT);
    let looked_at = user_agent.get(..end).unwrap_or_default();
    let find = |words: &[(&str, &'static str)]| {
        words.iter().find(|(word, _)| has_token(looked_at, word)).map(|(_, name)| *name)
    };
    match (find(&PROGRAMS), find(&SYSTEMS)) {
        (Some(program), Some(system)) => format!("{program} on {system}"),
        (Some(program), None) => program.to_owned(),
        (None, Some(system)) => format!("{system} device"),
        (None, None) => "Unknown device".to_owned(),
    }
}

/// True when `word` starts a token, so that `git/` is not found in `digit/`.
fn has_token(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|head| head.chars().next_back());
        !before.is_some_and(|c| c.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_user_agents_get_names() {
        let chrome = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36";
        let cases = [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
                "Firefox on Linux",
            ),
            (&*format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {chrome}"), "Chrome on Windows"),
            (
                &*format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {chrome} Edg/141.0"),
                "Edge on Windows",
            ),
            (
                &*format!("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {chrome} OPR/120.0"),
                "Opera on macOS",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
                "Safari on macOS",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
                "Safari on iOS",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/141.0 Mobile/15E148 Safari/604.1",
                "Chrome on iOS",
            ),
            (
                "Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/144.0 Mobile/15E148 Safari/605.1.15",
                "Firefox on iPadOS",
            ),
            (
                "Mozilla/5.0 (Android 15; Mobile; rv:144.0) Gecko/144.0 Firefox/144.0",
                "Firefox on Android",
            ),
            (&*format!("Mozilla/5.0 (Linux; Android 10; K) {chrome}"), "Chrome on Android"),
            ("curl/8.14.1", "curl"),
            ("python-requests/2.32.5", "Python"),
            ("Wget/1.25.0 (linux-gnu)", "Wget on Linux"),
            ("Go-http-client/2.0", "Go program"),
            ("node", "Node.js"),
            ("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0)", "ChromeOS device"),
        ];
        for (user_agent, name) in cases {
            assert_eq!(device_name(user_agent), name, "{user_agent}");
        }
    }

    #[test]
    fn anything_else_is_bounded_and_fixed() {
        assert_eq!(device_name(""), "Unknown device");
        assert_eq!(device_name("digit/1 <script>"), "Unknown device");
        assert_eq!(device_name(&"é".repeat(100_000)), "Unknown device");
        assert_eq!(device_name(&format!("{}curl/8", " ".repeat(LOOKED_AT))), "Unknown device");
        assert_eq!(device_name(&"curl/".repeat(10_000)), "curl");
    }
}
