//! The API as its own description has it: a client that is made from it works, and nothing that it allows breaks the API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::gateway::TOKEN;
use crate::support::{Gateway, Ran, Upstream, tool};

/// What `./test` installs from `.ci/api-tools.txt`.
const TOOLS: &str = "target/tools/api/bin";

/// The generator and the fuzzer take longer than a request.
const PATIENCE: Duration = Duration::from_secs(580);

fn program(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(TOOLS).join(name);
    assert!(program.exists(), "{} is not there: ./test installs it", program.display());
    program
}

/// Runs one of the tools to its end.
fn run(name: &str, arguments: &[&str], directory: &Path) -> Ran {
    let mut command = tool(program(name).to_str().expect("a path is text"));
    command.args(arguments).current_dir(directory).env("HOME", directory);
    // They print what they do for people: without colours and progress.
    command.env("NO_COLOR", "1").env("TERM", "dumb").env("CI", "true");
    Ran::to_end_within(&mut command, "python3-venv", PATIENCE)
}

fn write_description(gateway: &Gateway, directory: &Path) -> String {
    let answer = gateway.admin().get("/openapi.json");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let path = directory.join("openapi.json");
    std::fs::write(&path, &answer.body).expect("a file can be written");
    path.to_str().expect("a path is text").to_owned()
}

#[test]
fn a_generated_client_works() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let directory = tempfile::tempdir().expect("a directory can be made");
    let description = write_description(&gateway, directory.path());
    let config = directory.path().join("config.yml");
    std::fs::write(&config, "post_hooks: []\n").expect("a file can be written");
    let arguments =
        ["generate", "--path", &description, "--config", config.to_str().unwrap(), "--meta", "none"];
    let generated = run("openapi-python-client", &arguments, directory.path()).assert_code(0);
    assert!(!generated.stderr.contains("Warning") && !generated.stdout.contains("WARNING"), "{generated:?}");

    let script = format!("{}/tests/it/clients/generated_client.py", env!("CARGO_MANIFEST_DIR"));
    let mut command = tool(program("python").to_str().unwrap());
    command.arg(script).env("GENERATED_CLIENT", directory.path()).current_dir(directory.path());
    command.env("ADMIN_URL", gateway.admin_url()).env("ADMIN_TOKEN", TOKEN);
    let ran = Ran::to_end(&mut command, "python3-venv").assert_code(0);
    assert!(ran.stdout.contains("all is well"), "{ran:?}");
}

#[test]
#[ignore = "half a minute of requests that the description allows"]
fn no_request_that_is_described_breaks_the_api() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let directory = tempfile::tempdir().expect("a directory can be made");
    let description = write_description(&gateway, directory.path());
    let token = format!("Authorization: Bearer {TOKEN}");
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                  response_schema_conformance,unsupported_method,ignored_auth,use_after_free";
    let url = gateway.admin_url();
    let arguments = [
        "run",
        &description,
        "--url",
        &url,
        "--header",
        &token,
        "--checks",
        checks,
        "--max-examples",
        "50",
        "--seed",
        "1",
        "--generation-deterministic",
        "--suppress-health-check",
        "all",
    ];
    let ran = run("schemathesis", &arguments, directory.path());
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    gateway.wait_until_ready();
}
