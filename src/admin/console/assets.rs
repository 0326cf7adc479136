//! Style sheet, scripts and icon: in the binary, and served under a name that changes with their content, so that a
//! browser may keep them for ever.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use sha2::{Digest, Sha256};

const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Name, media type, content.
const ASSETS: [(&str, &str, &str); 9] = [
    ("app.css", CSS, include_str!("assets/app.css")),
    ("app.js", SCRIPT, include_str!("assets/app.js")),
    ("dialogs.js", SCRIPT, include_str!("assets/dialogs.js")),
    ("filter.js", SCRIPT, include_str!("assets/filter.js")),
    ("hints.js", SCRIPT, include_str!("assets/hints.js")),
    ("reveal.js", SCRIPT, include_str!("assets/reveal.js")),
    ("times.js", SCRIPT, include_str!("assets/times.js")),
    ("trouble.js", SCRIPT, include_str!("assets/trouble.js")),
    ("favicon.svg", SVG, include_str!("assets/favicon.svg")),
];

/// The folder that pages load from. It is one for all, because scripts import each other by name.
static FOLDER: LazyLock<String> = LazyLock::new(|| {
    let mut content = Sha256::new();
    for (name, _, text) in ASSETS {
        content.update(name);
        content.update([0]);
        content.update(text);
        content.update([0]);
    }
    let hash = content.finalize();
    let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("/assets/{hash}")
});

/// Where pages find what they load, without a slash at the end.
pub(super) fn folder() -> &'static str {
    &FOLDER
}

/// `GET /assets/{hash}/{name}`. Of another build nothing is served: it would be kept under a name that lies.
pub(super) async fn serve(Path((hash, name)): Path<(String, String)>) -> Response {
    let ours = folder().ends_with(&format!("/{hash}"));
    let Some((_, kind, text)) = ASSETS.into_iter().find(|(asset, _, _)| ours && *asset == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers =
        [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_styles_name_only_what_is_here() {
        let names = ASSETS.map(|(name, _, _)| name);
        for (file, kind, text) in ASSETS {
            assert!(!text.contains("url(") && !text.contains("@import"), "{file} loads something");
            if kind == SCRIPT {
                let imports = text.lines().filter(|line| line.starts_with("import "));
                for import in imports {
                    let name = import.split('"').nth(1).and_then(|path| path.strip_prefix("./"));
                    assert!(name.is_some_and(|name| names.contains(&name)), "{file}: {import}");
                }
                assert!(!text.contains("innerHTML") && !text.contains("eval("), "{file} makes code of text");
            }
        }
    }
}
