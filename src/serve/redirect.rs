//! The plain-HTTP listener: sends pages to HTTPS with 308, refuses everything else, takes no cookie.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::host;
use crate::api::wants_page;

/// Serves one plain connection. Redirects lead to `public_url`'s host, or to the host asked for when
/// `serves` says that it is one of ours, on the port of `public_url`.
pub async fn redirect<IO>(io: IO, public_url: &str, serves: impl Fn(&str) -> bool)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&request, public_url, &serves);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .keep_alive(false)
        .max_buf_size(16 << 10);
    if let Err(error) = builder.serve_connection(TokioIo::new(io), service).await {
        tracing::debug!(%error, "plain connection");
    }
}

fn answer<B>(
    request: &Request<B>,
    public_url: &str,
    serves: &impl Fn(&str) -> bool,
) -> Response<Full<Bytes>> {
    let navigates = matches!(*request.method(), Method::GET | Method::HEAD);
    let plain_get = navigates && !request.headers().contains_key("x-requested-with");
    let mut response = Response::new(Full::default());
    let headers = request.headers();
    // A program that sends credentials in the clear must notice, not be led on.
    let credentials = headers.contains_key(header::AUTHORIZATION);
    if !plain_get || credentials || !(wants_page(request.method(), headers) || is_bare(headers)) {
        *response.status_mut() = StatusCode::FORBIDDEN;
        let text = format!("This is served over HTTPS only: use {public_url}\n");
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        *response.body_mut() = Full::from(text);
        return response;
    }
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let base = own_base(request, public_url, serves);
    let location = HeaderValue::from_str(&format!("{base}{target}"));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let location = location.unwrap_or_else(|_| HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// Nobody who says what they want: curl, health checks.
fn is_bare(headers: &http::HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).map(HeaderValue::as_bytes);
    matches!(accept, None | Some(b"*/*")) && !headers.contains_key("sec-fetch-mode")
}

/// Built from the configuration; a host asked for counts only when it is one of ours.
fn own_base<B>(request: &Request<B>, public_url: &str, serves: &impl Fn(&str) -> bool) -> String {
    let port = url::Url::parse(public_url).ok().and_then(|url| url.port());
    let asked = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    match asked.and_then(host::parse) {
        Some(host) if serves(host.name()) => match port {
            Some(port) => format!("https://{}:{port}", host.name()),
            None => format!("https://{}", host.name()),
        },
        _ => public_url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(lines: &[(&str, &str)], method: &str, uri: &str) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let serves = |host: &str| host == "app.example.com";
        let response = answer(&request.body(()).unwrap(), "https://www.example.com:8443", &serves);
        let location = response.headers().get("location");
        let location = location.map_or("", |value| value.to_str().unwrap()).to_owned();
        (response.status().as_u16(), location)
    }

    #[test]
    fn pages_are_sent_to_https_and_apis_are_refused() {
        let html = ("accept", "text/html");
        let own = ("host", "app.example.com:80");
        assert_eq!(
            ask(&[html, own], "GET", "/a?b=c"),
            (308, "https://app.example.com:8443/a?b=c".to_owned())
        );
        assert_eq!(
            ask(&[html, ("host", "evil.org")], "GET", "/"),
            (308, "https://www.example.com:8443/".to_owned())
        );
        assert_eq!(ask(&[own], "GET", "//evil.org/").1, "https://app.example.com:8443//evil.org/");
        for (lines, method) in [
            (&[html, own][..], "POST"),
            (&[own, ("accept", "application/json")], "GET"),
            (&[own, html, ("x-requested-with", "XMLHttpRequest")], "GET"),
            (&[own, ("authorization", "Bearer x")], "GET"),
        ] {
            assert_eq!(ask(lines, method, "/").0, 403, "{lines:?}");
        }
    }
}
