//! Routes as a table: it lists what is served, dispatches requests, and is what each `openapi.json` is compared with.

use crate::auth::Need;
use http::Method;
use std::borrow::Cow;

/// What a caller must present before the body of a call is read. Further checks depend on the path and the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing: the answer is the same for everyone, or the call issues a token.
    Public,
    /// A secret in the path.
    Secret,
    /// A token that may send to the stream that the request names.
    Ingest,
    /// A token with at least this right.
    Token(Need<'static>),
}

/// The public description of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteInfo {
    pub method: &'static str,
    pub template: &'static str,
    pub access: Access,
}

/// The public description of a table of routes.
pub fn served<T>(routes: &[Route<T>]) -> Vec<RouteInfo> {
    let served =
        |route: &Route<T>| RouteInfo { method: route.method, template: route.template, access: route.access };
    routes.iter().map(served).collect()
}

/// A method and a path, what a caller must present, and the handler.
#[derive(Debug, Clone, Copy)]
pub struct Route<T: 'static> {
    pub method: &'static str,
    /// A path in `OpenAPI` notation: `/admin/v1/streams/{id}`. A parameter is a whole segment or, as in
    /// `/v1/tasks/{*taskId}`, all remaining segments.
    pub template: &'static str,
    pub access: Access,
    pub call: T,
    /// Bytes of the template before its first parameter and after its last one. They rule out most routes.
    head: usize,
    tail: usize,
}

impl<T> Route<T> {
    const fn new(method: &'static str, template: &'static str, access: Access, call: T) -> Self {
        let bytes = template.as_bytes();
        let (mut head, mut tail) = (0, 0);
        while head < bytes.len() && bytes[head] != b'{' {
            head += 1;
        }
        while tail < bytes.len() && bytes[bytes.len() - 1 - tail] != b'}' {
            tail += 1;
        }
        Self { method, template, access, call, head, tail }
    }

    pub const fn get(template: &'static str, access: Access, call: T) -> Self {
        Self::new("GET", template, access, call)
    }

    pub const fn post(template: &'static str, access: Access, call: T) -> Self {
        Self::new("POST", template, access, call)
    }

    pub const fn put(template: &'static str, access: Access, call: T) -> Self {
        Self::new("PUT", template, access, call)
    }

    pub const fn patch(template: &'static str, access: Access, call: T) -> Self {
        Self::new("PATCH", template, access, call)
    }

    pub const fn options(template: &'static str, access: Access, call: T) -> Self {
        Self::new("OPTIONS", template, access, call)
    }

    pub const fn delete(template: &'static str, access: Access, call: T) -> Self {
        Self::new("DELETE", template, access, call)
    }
}

/// The result of matching a method and a path.
#[derive(Debug)]
pub enum RouteMatch<'a, T: 'static> {
    /// The route and its parameters in template order, percent-decoded.
    Route(&'static Route<T>, Vec<Cow<'a, str>>),
    /// The path exists, but only for these methods, in the format of the `Allow` header.
    OtherMethods(String),
    Nothing,
}

/// Finds the route of a request. A trailing slash makes no difference; HEAD is treated as GET.
pub fn find<'a, T>(routes: &'static [Route<T>], method: &Method, path: &'a str) -> RouteMatch<'a, T> {
    let wanted = if *method == Method::HEAD { Method::GET } else { method.clone() };
    for route in routes.iter().filter(|route| route.method == wanted.as_str()) {
        if let Some(parameters) = route.matches(path) {
            return RouteMatch::Route(route, parameters);
        }
    }
    let mut others: Vec<&str> = Vec::new();
    for route in routes.iter().filter(|route| route.matches(path).is_some()) {
        others.push(route.method);
        if route.method == "GET" {
            others.push("HEAD");
        }
    }
    if others.is_empty() { RouteMatch::Nothing } else { RouteMatch::OtherMethods(others.join(", ")) }
}

/// Returns whether any route has this path.
pub fn is_known<T>(routes: &[Route<T>], path: &str) -> bool {
    routes.iter().any(|route| route.matches(path).is_some())
}

impl<T> Route<T> {
    /// The parameters of a path, if this route matches it.
    fn matches<'a>(&self, path: &'a str) -> Option<Vec<Cow<'a, str>>> {
        let template = self.template.strip_suffix('/').unwrap_or(self.template);
        let path = path.strip_suffix('/').unwrap_or(path);
        if self.head == self.template.len() {
            // A template without parameters is compared as a whole.
            return (path == template).then(Vec::new);
        }
        let head = template.get(..self.head);
        let tail = template.len().checked_sub(self.tail).and_then(|at| template.get(at..));
        if head.is_some_and(|head| !path.starts_with(head)) || tail.is_some_and(|tail| !path.ends_with(tail))
        {
            return None;
        }
        let mut parameters = Vec::new();
        let mut segments = path.split('/');
        for expected in template.split('/') {
            if expected.starts_with("{*") {
                let rest = segments.collect::<Vec<_>>().join("/");
                let decoded = percent_encoding::percent_decode_str(&rest).decode_utf8().ok()?;
                parameters.push(Cow::Owned(decoded.into_owned()));
                return (!rest.is_empty()).then_some(parameters);
            }
            let segment = segments.next()?;
            if expected.starts_with('{') {
                if segment.is_empty() {
                    return None;
                }
                parameters.push(percent_encoding::percent_decode_str(segment).decode_utf8().ok()?);
            } else if expected != segment {
                return None;
            }
        }
        segments.next().is_none().then_some(parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: Access = Access::Public;
    static ROUTES: [Route<u8>; 6] = [
        Route::get("/a", PUBLIC, 1),
        Route::get("/a/special", PUBLIC, 2),
        Route::get("/a/{id}", PUBLIC, 3),
        Route::delete("/a/{id}", Access::Token(Need::Admin), 4),
        Route::get("/", PUBLIC, 5),
        Route::get("/t/{*id}", PUBLIC, 6),
    ];

    #[test]
    fn the_first_that_matches_is_found() {
        let find = |method: Method, path: &str| match find(&ROUTES, &method, path) {
            RouteMatch::Route(route, parameters) => format!("{} {}", route.call, parameters.join(",")),
            RouteMatch::OtherMethods(methods) => methods,
            RouteMatch::Nothing => "nothing".to_owned(),
        };
        assert_eq!(find(Method::GET, "/a/"), "1 ");
        assert_eq!(find(Method::HEAD, "/a/special"), "2 ");
        assert_eq!(find(Method::GET, "/a/x%2Fy"), "3 x/y");
        assert_eq!(find(Method::DELETE, "/a/x"), "4 x");
        assert_eq!(find(Method::DELETE, "/a/special"), "4 special");
        assert_eq!(find(Method::PUT, "/a/x"), "GET, HEAD, DELETE");
        assert_eq!(find(Method::GET, "/"), "5 ");
        assert_eq!(find(Method::GET, "/t/x/y%20z/"), "6 x/y z");
        for path in ["/t", "/t/", "/b", "/a/x/y", "/a//", "//a", "/a/%ff"] {
            assert_eq!(find(Method::GET, path), "nothing", "{path}");
        }
        assert!(is_known(&ROUTES, "/a/x") && !is_known(&ROUTES, "/a/x/y"));
        assert_eq!(served(&ROUTES)[3].access, Access::Token(Need::Admin));
    }
}
