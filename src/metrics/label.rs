//! The closed sets of label values.
//!
//! Nothing here comes from a request: a label value that a client can choose would let it grow the
//! exposition without bound.

/// An enum whose variants are label values, in a fixed order.
pub(super) trait Label: Copy + 'static {
    /// Every variant, in the order of its discriminant.
    const ALL: &'static [Self];

    /// The label's value.
    fn text(self) -> &'static str;

    /// The place of this variant in [`Label::ALL`].
    fn index(self) -> usize;
}

macro_rules! labels {
    ($(#[$doc:meta])* $vis:vis $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Number of variants.
            pub(super) const COUNT: usize = <Self as Label>::ALL.len();
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

labels! {
    /// How a request was treated.
    pub RequestKind {
        /// Sent upstream without a session.
        Public = "public",
        /// Sent upstream with the identity of a session.
        SignedIn = "signed-in",
        /// Answered by a page or an API of the gateway.
        Own = "own",
        /// Refused: invalid, not allowed, or over a limit.
        Refused = "refused",
    }
}

labels! {
    /// First digit of a status code.
    pub(super) StatusClass {
        /// 100 to 199: in practice 101, a tunnel.
        Informational = "1xx",
        /// 200 to 299.
        Success = "2xx",
        /// 300 to 399.
        Redirect = "3xx",
        /// 400 to 499.
        ClientError = "4xx",
        /// 500 to 599.
        ServerError = "5xx",
        /// Not a status of RFC 9110.
        Other = "other",
    }
}

impl StatusClass {
    pub(super) fn of(status: u16) -> Self {
        match status {
            100..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirect,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::Other,
        }
    }
}

labels! {
    /// What came of looking for a session.
    pub Lookup {
        /// Answered by this process's cache.
        Hit = "hit",
        /// Asked of the store.
        Miss = "miss",
        /// The token opens no session.
        Worthless = "worthless",
    }
}

labels! {
    /// What came of one attempt to have a request answered by an upstream.
    pub UpstreamOutcome {
        /// A response head arrived.
        Ok = "ok",
        /// No connection could be made.
        ConnectError = "connect-error",
        /// No answer in time.
        Timeout = "timeout",
        /// The connection broke before the response head.
        Reset = "reset",
        /// The answer was not acceptable HTTP.
        BadResponse = "bad-response",
        /// The client broke the request's body off, or sent it too slowly.
        ClientBody = "client-body",
        /// A stale pooled connection; the request was sent once more.
        Retried = "retried",
    }
}

labels! {
    /// Why a shared session store did not do what was asked.
    pub StoreFailure {
        /// There is no connection, or the breaker is open: nothing was tried.
        Down = "down",
        /// Too much was under way.
        Busy = "busy",
        /// No answer in time.
        Timeout = "timeout",
        /// The connection could not be made, or broke.
        Connection = "connection",
        /// Carried out, but not known to be on a replica.
        Unconfirmed = "unconfirmed",
        /// The server is a replica.
        ReadOnly = "read-only",
        /// The server's memory is full.
        OutOfMemory = "out-of-memory",
        /// The server refuses changes that it could not keep.
        NotPersisted = "not-persisted",
        /// The server is loading its data, or has lost its master.
        Loading = "loading",
        /// A Cluster is not whole, or sent the command on too often.
        Cluster = "cluster",
        /// Wrong password, or too few rights.
        Denied = "denied",
        /// Anything else.
        Other = "other",
    }
}

labels! {
    /// Why a connection never got to its first request.
    pub HandshakeFailure {
        /// Not done in time.
        Timeout = "timeout",
        /// TLS refused it: version, cipher, alert, not TLS at all.
        Tls = "tls",
        /// No certificate for the name the client asked for.
        UnknownName = "unknown-name",
        /// The PROXY protocol header is missing or invalid.
        ProxyHeader = "proxy-header",
        /// The client closed the connection.
        Closed = "closed",
    }
}

labels! {
    /// What can be open at the moment.
    pub OpenKind {
        /// Requests whose answer is not complete.
        Request = "request",
        /// Client connections.
        Connection = "connection",
        /// Responses and tunnels registered under a session, cut when it ends.
        Stream = "stream",
        /// Upgraded connections such as WebSockets.
        Tunnel = "tunnel",
        /// A task of a worker: a connection, a tunnel, and what both leave behind.
        Task = "task",
    }
}

labels! {
    /// What is read again while the gateway runs.
    pub Reload {
        /// The configuration.
        Config = "config",
        /// Users and groups.
        Directory = "directory",
        /// Certificates and their keys.
        Certificates = "certificates",
    }
}

labels! {
    /// Values that are asked for at each scrape; see [`super::Metrics::watch`].
    pub Watch {
        /// Sessions in this process's cache. No label.
        CachedSessions = "cached-sessions",
        /// 1 when the session store answers, else 0; labelled by server.
        StoreReady = "store-ready",
        /// How long ago the store has last proven that it tells of every change, in ms; labelled by
        /// server.
        StoreLeaseAge = "store-lease-age",
        /// Log lines that were given up; labelled by log.
        LogLinesDropped = "log-lines-dropped",
        /// When a certificate ends, in seconds since the epoch; labelled by certificate.
        CertificateExpiry = "certificate-expiry",
        /// Addresses of an upstream that take requests; labelled by upstream.
        UpstreamHealthy = "upstream-healthy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<L: Label + std::fmt::Debug>() {
        for (index, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), index, "{label:?}");
        }
        let mut texts: Vec<_> = L::ALL.iter().map(|label| label.text()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), L::ALL.len());
    }

    #[test]
    fn every_label_has_its_own_cell_and_text() {
        check::<RequestKind>();
        check::<StatusClass>();
        check::<Lookup>();
        check::<StoreFailure>();
        check::<UpstreamOutcome>();
        check::<HandshakeFailure>();
        check::<OpenKind>();
        check::<Reload>();
        check::<Watch>();
    }

    #[test]
    fn every_status_has_a_class() {
        for (status, class) in
            [(101, "1xx"), (200, "2xx"), (308, "3xx"), (499, "4xx"), (503, "5xx")]
        {
            assert_eq!(StatusClass::of(status).text(), class);
        }
        for odd in [0, 99, 600, u16::MAX] {
            assert_eq!(StatusClass::of(odd), StatusClass::Other);
        }
    }
}
