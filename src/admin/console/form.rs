//! Reading what a form sent.

use axum::extract::Request;
use url::form_urlencoded;
use zeroize::Zeroize;

use crate::admin::body;
use crate::admin::problem::Problem;

/// Bytes. Our forms have a few short fields.
const LIMIT: usize = 16 * 1024;

/// The fields of a form. Does not print, and is wiped when dropped: one of them may be a key.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 if it is none or broke off, 413, 408.
    pub(super) async fn read(request: Request) -> Result<Fields, Problem> {
        if !body::is(body::FORM, request.headers()) {
            return Err(Problem::bad_request("this is not a form"));
        }
        let body = body::collect(request, LIMIT).await?;
        Ok(Fields(form_urlencoded::parse(&body).into_owned().collect()))
    }

    /// The first field of this name, or nothing.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        for (_, value) in &mut self.0 {
            value.zeroize();
        }
    }
}
