//! An upstream that speaks TLS: `openssl s_server`, which is not ours.

use std::path::Path;

use crate::refusals::assert_refused;
use crate::support::process::Process;
use crate::support::wait::{PATIENCE, eventually_some};
use crate::support::{Gateway, Ran, Request, tool};

const WALLET: &str = r#"{"data":{"id":"wlt_1"}}"#;

/// A server for 127.0.0.1 in `folder`, vouched for by `root.pem` there; its address.
fn start(folder: &Path) -> (Process, String) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    std::fs::write(folder.join("wallet"), WALLET).unwrap();
    for command in [
        format!("req -x509 {key} -subj /CN=root -keyout root.key -out root.pem"),
        format!("req {key} -subj /CN=upstream -keyout server.key -out server.csr"),
        "x509 -req -days 2 -in server.csr -CA root.pem -CAkey root.key -CAcreateserial -extfile names -out server.pem"
            .to_owned(),
    ] {
        openssl(folder, &command, |command| Ran::to_end(command, "openssl").assert_code(0));
    }
    let serve = "s_server -accept 127.0.0.1:0 -cert server.pem -key server.key -WWW";
    let server = openssl(folder, serve, |command| Process::start(command, "openssl"));
    let address = eventually_some("it listens", PATIENCE, || {
        let said = String::from_utf8_lossy(&server.stdout()).into_owned();
        said.lines().find_map(|line| line.strip_prefix("ACCEPT ")).map(str::to_owned)
    });
    (server, address)
}

fn openssl<T>(folder: &Path, arguments: &str, run: impl FnOnce(&mut std::process::Command) -> T) -> T {
    run(tool("openssl").current_dir(folder).args(arguments.split(' ')))
}

#[test]
fn an_upstream_is_spoken_to_by_tls_if_the_given_root_vouches_for_it_and_else_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, address) = start(folder.path());
    let url = format!("https://{address}");
    let root = folder.path().join("root.pem");

    let trusting = Gateway::builder()
        .set("KEYGATE_UPSTREAM_LIVE", &url)
        .set("KEYGATE_UPSTREAM__CA_FILE", root.to_str().unwrap())
        .start();
    let answer = trusting.ask(&Request::get("/wallet").key(&trusting.live_key()));
    assert_eq!((answer.status, answer.text().as_str()), (200, WALLET));

    let doubting = Gateway::builder().set("KEYGATE_UPSTREAM_LIVE", &url).start();
    assert_refused(&doubting.use_key(&doubting.live_key()), "upstream_unavailable");
}
