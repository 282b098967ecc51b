//! The dashboard in a real browser: what a user sees and does, and what the browser must have nothing to say about.

use crate::harness::{
    browser::Browser,
    cluster::{Cluster, http_get},
    tools::{BUSYBOX, docker, run},
    wait::{SOON, until_equal},
};
use serde_json::json;

const APP: &str = "io.kubernetes.container.name=spring-container";
const ESCAPE: char = '\u{e00c}';
/// The bit of the key in the DevTools protocol.
const SHIFT: u32 = 8;
const TAB: char = '\u{e004}';
const ENTER: char = '\u{e007}';
const DOWN: char = '\u{e015}';

/// One cluster and one browser: each costs seconds.
#[test]
fn the_dashboard_shows_what_happens_and_does_what_it_is_told() {
    let Some(browser) = Browser::start(1440, 900) else { return };
    let args = ["--dashboard-address", "127.0.0.1:0", "-f", "manifests/spring-deployment.yaml"];
    let cluster = Cluster::start_with("dash", &args);
    let link = run(&mut cluster.skiff(&["open", "--print"]));
    browser.open(link.trim());
    browser.until("document.querySelector('.summary')?.innerText.includes('All 3 pods of 1 workload are ready')");
    assert_eq!(
        browser.run("return location.href.includes('token')"),
        false,
        "the link's token does not stay in the address line"
    );
    its_own_parts_compute_what_they_should(&browser);
    a_kill_tells_its_story(&cluster, &browser);
    connections_are_seen(&cluster, &browser);
    buttons_scale(&cluster, &browser);
    logs_are_text(&cluster, &browser);
    an_edit_that_is_wrong_is_told_why(&browser);
    a_shell_runs_on_a_terminal(&cluster, &browser);
    the_keyboard_is_enough(&browser);
    browser.keep_picture("dashboard.png");
    // The browser notes that the server refused the edit, as it should; and that containers change the machine's network.
    let is_expected =
        |complaint: &String| ["status of 422", "ERR_NETWORK_CHANGED"].iter().any(|c| complaint.contains(c));
    let complaints: Vec<String> = browser.complaints().into_iter().filter(|c| !is_expected(c)).collect();
    assert_eq!(complaints, Vec::<String>::new());
    browser.open(link.trim());
    browser.run("location.reload()");
    // The session stays when its link is used up.
    browser.until(
        "performance.getEntriesByType('navigation')[0].type === 'reload'
            && document.querySelector('.summary')?.innerText.includes('All 2 pods')",
    );
}

/// The server refuses it, and the page does not offer it.
#[test]
fn who_may_only_look_is_told_so_and_changes_nothing() {
    let Some(browser) = Browser::start(1440, 900) else { return };
    let address = ["--dashboard-address", "127.0.0.1:0", "--dashboard-as", "view"];
    let cluster = Cluster::start_with("look", &[&address[..], &["-f", "manifests/spring-deployment.yaml"]].concat());
    browser.open(run(&mut cluster.skiff(&["open", "--print"])).trim());
    browser.until("document.querySelector('.summary')?.innerText.includes('All 3 pods of 1 workload are ready')");
    browser.until("document.body.innerText.includes('You may look and change nothing')");
    browser.run("location.hash = 'at=Deployment/default/spring-deployment'");
    browser.until("document.querySelector('.panel')?.innerText.includes('spring-deployment')");
    let offered = browser.run("return [...document.querySelectorAll('.panel button')].map((b) => b.textContent)");
    let changes = ["Restart", "Pause", "Undo", "Delete", "Scale", "Edit", "Run"];
    let offered: Vec<&str> = offered.as_array().unwrap().iter().filter_map(|text| text.as_str()).collect();
    assert!(!offered.iter().any(|text| changes.iter().any(|change| text.contains(change))), "{offered:?}");
    let path = "/apis/apps/v1/namespaces/default/deployments/spring-deployment";
    let refused = browser.run_async(&format!(
        "const done = arguments[arguments.length - 1];
         // Chromium drops what is under way when containers change the network; what is refused may be asked twice.
         const ask = () => fetch('{path}', {{ method: 'DELETE', headers: {{ 'X-Skiff-Dashboard': '1' }} }})
             .then((a) => done(a.status), () => setTimeout(ask, 100));
         ask();"
    ));
    assert_eq!(refused, 403);
    cluster.rolled_out("spring-deployment");
}

/// Pure parts of the page, where the page runs.
fn its_own_parts_compute_what_they_should(browser: &Browser) {
    let wrong = browser.run_async(include_str!("dashboard_units.js"));
    assert_eq!(wrong, json!([]));
}

fn a_kill_tells_its_story(cluster: &Cluster, browser: &Browser) {
    docker(&["kill", &cluster.containers(APP)[0]]);
    let story = browser.until("document.querySelector('.story.done')?.innerText");
    let story = story.as_str().unwrap();
    for word in ["Container healed", "SIGKILL", "exit code 137", "killed", "ended", "created", "started", "ready"] {
        assert!(story.contains(word), "{word}: {story}");
    }
    browser.until("document.getElementById('said').textContent.includes('healed in')");
    browser.until("document.querySelector('.pod .restarts')?.textContent === '↻1'");
}

/// Requests run to the pods that take them: they are counted for each, drawn, and end the story of a kill.
fn connections_are_seen(cluster: &Cluster, browser: &Browser) {
    cluster.kubectl(&["expose", "deployment", "spring-deployment", "--name=seen", "--port=8080", "--type=NodePort"]);
    browser.run("window.hashBefore = location.hash; location.hash = '#at=Service/default/seen'");
    let took =
        "[...document.querySelectorAll('.connections .small')].map((e) => parseInt(e.innerText.replaceAll(',', '')))";
    browser.until(&format!("{took}.length === 3"));
    let port = cluster.jsonpath(&["service", "seen"], "{.spec.ports[0].nodePort}").parse().unwrap();
    for _ in 0..30 {
        http_get(port).unwrap();
    }
    browser.until(&format!("{took}.every((n) => n >= 10)"));
    browser.until("document.querySelector('.story.done .served')?.innerText.includes('first connection')");
    browser
        .until("(() => { const c = document.querySelector('canvas.dots'); return c.width > 300 && c.height > 100 })()");
    browser.run("location.hash = window.hashBefore");
}

fn buttons_scale(cluster: &Cluster, browser: &Browser) {
    let up = "document.querySelector('.arrow[aria-label=\"Scale spring-deployment to 4\"]')";
    browser.run(&format!("{up}.dispatchEvent(new MouseEvent('click', {{ bubbles: true }}))"));
    let replicas = || cluster.jsonpath(&["deployment", "spring-deployment"], "{.spec.replicas}");
    until_equal("the arrow scales", SOON, "4".to_owned(), replicas);
    browser.until("document.querySelector('.summary').innerText.includes('All 4 pods')");
}

/// Logs who it is, and that is markup.
const LOUD: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: loud }
spec:
  containers:
  - name: loud
    image: kubernetes-spring
    imagePullPolicy: IfNotPresent
    command: [/skiff, demo-server, --name, "<img src=x onerror=alert(1)>"]
"#;

fn logs_are_text(cluster: &Cluster, browser: &Browser) {
    browser.run("location.hash = 'at=Deployment/default/spring-deployment&view=logs'");
    browser.until("new Set([...document.querySelectorAll('.lines .from')].map((e) => e.textContent)).size >= 4");
    cluster.apply(LOUD);
    browser.run("location.hash = 'at=Pod/default/loud&view=logs'");
    browser.until("document.querySelector('.lines').innerText.includes('<img src=x onerror=alert(1)>')");
    assert_eq!(browser.run("return document.querySelectorAll('.lines img').length"), 0);
    cluster.kubectl(&["delete", "pod", "loud", "--wait=false"]);
    browser.until("document.querySelector('.panel .state')?.textContent === 'It is gone'");
}

/// What is typed runs in the container, on a terminal of the frame's size, in colours; one pair of keys leads out, and the end is told.
fn a_shell_runs_on_a_terminal(cluster: &Cluster, browser: &Browser) {
    let image = *BUSYBOX;
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: tty}}, spec: {{terminationGracePeriodSeconds: 0, \
         containers: [{{name: c, image: '{image}', command: [sleep, '600']}}]}}}}"
    ));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/tty", "--timeout=60s"]);
    browser.run("location.hash = 'at=Pod/default/tty&view=shell'");
    browser.until("document.querySelector('.shell button:not([disabled])')?.textContent === 'Run'");
    browser.run("document.querySelector('.shell button').click()");
    let shown = "document.querySelector('.shell iframe').contentDocument.querySelector('.xterm-rows')\
                 .innerText.replaceAll(String.fromCharCode(160), ' ')";
    browser.until(&format!("{shown}.includes('/ #')"));
    let colours = r"echo -e '\x1b[31msize\x1b[38;2;9;9;9m' $(stty size)";
    browser.press(&colours.chars().chain([ENTER]).collect::<Vec<_>>());
    browser.until(&format!("/^size [1-9]\\d+ [1-9]\\d+$/m.test({shown})"));
    browser.press(&"exit 3".chars().chain([ENTER]).collect::<Vec<_>>());
    browser.until(&format!("{shown}.includes('ended with exit code 3')"));
    browser.run("document.querySelector('.shell button').click()");
    browser.until(&format!("{shown}.includes('/ #') && document.querySelector('.shell button').textContent === 'End'"));
    browser.command("Input.dispatchKeyEvent", &json!({ "type": "keyDown", "key": "Escape", "modifiers": SHIFT }));
    browser.until("document.activeElement === document.querySelector('.shell button')");
    browser.run("document.querySelector('.shell button').click()");
    browser.until("document.querySelector('.shell button').textContent === 'Run'");
    cluster.kubectl(&["delete", "pod", "tty", "--wait=false"]);
    browser.until("document.querySelector('.panel .state')?.textContent === 'It is gone'");
}

fn an_edit_that_is_wrong_is_told_why(browser: &Browser) {
    browser.run("location.hash = 'at=Deployment/default/spring-deployment&view=yaml'");
    browser.until("document.querySelector('.sheet textarea')?.value.includes('spring-container')");
    browser.run("[...document.querySelectorAll('.yaml button')].find((b) => b.textContent === 'Edit').click()");
    browser.until("!document.querySelector('.sheet textarea').readOnly");
    let write = |replicas: &str| {
        browser.run(&format!(
            "const sheet = document.querySelector('.sheet textarea');
             sheet.value = sheet.value.replace(/^  replicas: .*$/m, '  replicas: {replicas}');
             sheet.dispatchEvent(new Event('input', {{ bubbles: true }}));"
        ));
    };
    write("-1");
    browser.until("document.querySelector('.yaml .problem')?.innerText.includes('spec.replicas')");
    write("2");
    browser.until("document.querySelector('.diff .came')?.textContent.includes('replicas: 2')");
    browser.run("document.querySelector('.yaml .primary').click()");
    browser.until("document.querySelector('.summary').innerText.includes('All 2 pods')");
}

/// From the address line to the picture, into a thing, and out again.
fn the_keyboard_is_enough(browser: &Browser) {
    browser.press(&[ESCAPE]);
    browser.until("document.querySelector('.panel') === null");
    browser.run("document.querySelector('.picture [data-id]').focus()");
    browser.press(&[DOWN]);
    browser.run("document.querySelector('.node.workload').focus()");
    browser.press(&[ENTER]);
    browser.until("document.querySelector('.panel h2')?.textContent === 'spring-deployment'");
    browser.press(&[ESCAPE]);
    browser.until(
        "document.activeElement.getAttribute('aria-label')?.startsWith('Deployment spring-deployment, 2 of 2 ready')",
    );
    browser.press(&[TAB]);
    browser.until("document.activeElement.getAttribute('aria-label')?.startsWith('Scale spring-deployment to 3')");
}
