//! The routes of one host by their prefix: the time to find one does not grow with their number.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;

use super::target::Target;
use super::{Prefix, Route};

/// With fewer routes, a look at each is faster.
const FEW: usize = 8;

/// The routes of one host, as positions in the table of all.
#[derive(Debug)]
pub(super) enum Lookup {
    /// The longest prefix first; of one prefix as they are to be tried.
    Few(Vec<usize>),
    /// By the stem of the prefix.
    Many {
        /// Lengths of stems, each once, the longest first.
        lengths: Vec<usize>,
        by_stem: HashMap<String, Vec<usize>>,
    },
}

impl Lookup {
    /// Of positions in `routes`, the longest prefix first.
    pub(super) fn new(sorted: Vec<usize>, routes: &[Route]) -> Self {
        if sorted.len() <= FEW {
            return Self::Few(sorted);
        }
        let mut by_stem: HashMap<String, Vec<usize>> = HashMap::new();
        for position in sorted {
            if let Some(route) = routes.get(position) {
                let stem = route.prefix.stem().to_ascii_lowercase();
                by_stem.entry(stem).or_default().push(position);
            }
        }
        let mut lengths: Vec<_> = by_stem.keys().map(String::len).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        Self::Many { lengths, by_stem }
    }

    /// The routes with the longest prefix that covers `target`, in the order in which they are to be tried.
    pub(super) fn longest<'a, 'r: 'a>(
        &'a self,
        target: &Target<'_>,
        routes: &'r [Route],
    ) -> impl Iterator<Item = &'r Route> + use<'a, 'r> {
        let (list, prefix): (&'a [usize], Option<&'r Prefix>) = match self {
            Self::Few(all) => {
                let covering = |position: &usize| {
                    routes.get(*position).is_some_and(|route| route.prefix.covers(target))
                };
                let first = all.iter().position(covering);
                let list = first.and_then(|first| all.get(first..)).unwrap_or_default();
                let route = list.first().and_then(|position| routes.get(*position));
                (list, route.map(|route| &route.prefix))
            }
            Self::Many { lengths, by_stem } => {
                (widest(lengths, by_stem, target, routes).unwrap_or_default(), None)
            }
        };
        let found = list.iter().filter_map(|position| routes.get(*position));
        // Other prefixes of the same length may stand between.
        let length = prefix.map(|prefix| prefix.stem().len());
        found
            .take_while(move |route| {
                length.is_none_or(|length| route.prefix.stem().len() == length)
            })
            .filter(move |route| prefix.is_none_or(|prefix| route.prefix.stem() == prefix.stem()))
    }
}

/// The longest prefix that covers any reading of `target`, as [`Prefix::covers`] has it.
fn widest<'a>(
    lengths: &[usize],
    by_stem: &'a HashMap<String, Vec<usize>>,
    target: &Target<'_>,
    routes: &[Route],
) -> Option<&'a [usize]> {
    let plain = find(lengths, by_stem, target.matched());
    if target.others().is_empty() && !target.has_short_names() {
        return plain;
    }
    let prefix =
        |list: &[usize]| list.first().and_then(|at| routes.get(*at)).map(|route| &route.prefix);
    let others = target.others().iter().filter_map(|other| find(lengths, by_stem, other));
    // A short name may stand for any: these few requests look at all.
    let all = by_stem.values().map(Vec::as_slice).filter(|_| target.has_short_names());
    let short = all.filter(|list| prefix(list).is_some_and(|it| it.covers_by_short_names(target)));
    // Of the same length, the order of `Router::new`.
    plain.into_iter().chain(others).chain(short).min_by_key(|list| prefix(list).map(rank))
}

/// The order in which prefixes are tried: the longest first. A space comes before `+`, so that who has routes for
/// both gets no request for the one that some take for the other.
pub(super) fn rank(prefix: &Prefix) -> (Reverse<usize>, &str) {
    (Reverse(prefix.stem().len()), prefix.stem())
}

fn find<'a>(
    lengths: &[usize],
    by_stem: &'a HashMap<String, Vec<usize>>,
    path: &str,
) -> Option<&'a [usize]> {
    // Stems are in lower case; the path is canonical but for that.
    let path = match path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(path.to_ascii_lowercase()),
        false => Cow::Borrowed(path),
    };
    lengths.iter().find_map(|length| {
        let (stem, rest) = path.split_at_checked(*length)?;
        let whole = rest.is_empty() || rest.starts_with('/');
        by_stem.get(stem).filter(|_| whole).map(Vec::as_slice)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http::Method;
    use proptest::prelude::*;

    use crate::route::{Found, Route, Router, Target};
    use crate::section::{Problems, Section};

    fn router(paths: &[(String, bool)]) -> Router {
        let text: String = paths
            .iter()
            .map(|(path, get)| {
                let methods = if *get { "methods = [\"GET\"]\n" } else { "" };
                format!("[[route]]\npath = \"{path}\"\nupstream = \"app\"\n{methods}")
            })
            .collect();
        let problems = Problems::default();
        let mut root = Section::parse(Path::new("c.toml"), text, &problems);
        let mut tables = root.tables("route");
        let routes = tables.iter_mut().enumerate();
        let routes: Vec<_> = routes.filter_map(|(at, table)| Route::read(table, at)).collect();
        Router::new(routes, &["h".to_owned()]).unwrap()
    }

    fn found(router: &Router, path: &str, method: &Method) -> String {
        match router.find("h", &Target::parse(path).unwrap(), method) {
            Found::Route(route) => route.path.clone(),
            Found::WrongMethod(_) => "method".to_owned(),
            Found::NoPath | Found::NoHost => "none".to_owned(),
        }
    }

    /// The definition: of all that cover the target, those with the longest stem.
    fn expected(paths: &[(String, bool)], path: &str, method: &Method) -> String {
        let target = Target::parse(path).unwrap();
        let stem = |path: &str| crate::route::Prefix::new(path).unwrap();
        let covering = paths.iter().filter(|(path, _)| stem(path).covers(&target));
        let longest = covering.clone().map(|(path, _)| stem(path).stem().len()).max();
        let mut best: Vec<_> =
            covering.filter(|(path, _)| Some(stem(path).stem().len()) == longest).collect();
        // Routes with methods are tried first.
        best.sort_by_key(|(_, get)| !get);
        match best.iter().find(|(_, get)| !get || *method == Method::GET) {
            Some((path, _)) => path.clone(),
            None if best.is_empty() => "none".to_owned(),
            None => "method".to_owned(),
        }
    }

    #[test]
    fn routes_for_one_path_know_that_methods_are_told_apart() {
        let path = |path: &str, get| (path.to_owned(), get);
        let paths = [("/a", true), ("/a/", false), ("/b", false), ("/a/c", false), ("/", false)];
        let router = router(&paths.map(|(text, get)| path(text, get)));
        let tells: Vec<_> = router.routes().iter().map(|route| route.tells_methods_apart).collect();
        assert_eq!(tells, [true, true, false, false, false]);
    }

    #[test]
    fn other_readings_are_found_among_few_and_many_routes() {
        let paths = ["/", "/admin", "/my files", "/administrator", "/my+files"];
        let few: Vec<_> = paths.iter().map(|path| ((*path).to_owned(), false)).collect();
        let more = (0..20).map(|at| (format!("/other{at}"), false));
        let many: Vec<_> = few.iter().cloned().chain(more).collect();
        for router in [router(&few), router(&many)] {
            for (asked, route) in [
                ("/(S(x))/admin", "/admin"),
                ("/my%20files/x", "/my files"),
                ("/my+files/x", "/my files"),
                ("/ADMINI~1/x", "/administrator"),
                ("/MYFILE~1+", "/my files"),
                ("/a+b", "/"),
                ("/x~1", "/"),
            ] {
                assert_eq!(found(&router, asked, &Method::GET), route, "{asked}");
            }
        }
    }

    proptest! {
        #[test]
        fn few_and_many_routes_are_found_alike(
            mut paths in prop::collection::vec(("(/[abC]{1,2}){0,3}/?", any::<bool>()), 1..40),
            asked in prop::collection::vec("(/[aBc]{1,2}){0,4}/?", 1..20),
        ) {
            for (path, _) in &mut paths {
                if path.is_empty() {
                    path.push('/');
                }
            }
            let key = |path: &str| path.trim_end_matches('/').to_ascii_lowercase();
            paths.sort_by_key(|(path, get)| (key(path), *get));
            paths.dedup_by_key(|(path, get)| (key(path), *get));
            let paths: Vec<_> = paths
                .into_iter()
                .map(|(path, get)| (path.to_ascii_lowercase(), get))
                .collect();
            let router = router(&paths);
            for path in asked {
                let path = if path.is_empty() { "/".to_owned() } else { path };
                for method in [Method::GET, Method::POST] {
                    let wanted = expected(&paths, &path, &method);
                    prop_assert_eq!(found(&router, &path, &method), wanted, "{} {}", method, path);
                }
            }
        }
    }
}
