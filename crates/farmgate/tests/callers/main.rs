//! Who may do what, on the real program and real networks: a gateway in a network namespace of its own, with a machine
//! on its private interface and a neighbour on another. Each test is a script in that namespace; everything in it ends
//! with it. Nothing of the host is touched.

mod farm;

use std::collections::BTreeMap;

use farm::Farm;
use serde_json::Value;

#[test]
fn the_way_in_decides_and_not_the_address() {
    let Some(farm) = Farm::find() else { return };
    let said = farm.run(
        r#"
        admin=$(farmgate token add root --role admin)
        ask dut-plain          $dut GET $P/api/v1/duts
        # Addresses of the trusted network, and of another of the gateway's networks, behind the private interface.
        ask dut-as-trusted     $dut GET $P/api/v1/duts --interface 203.0.113.99
        ask dut-trusted-switch $dut POST $P/api/v1/dut/a/retire --interface 203.0.113.99
        ask dut-other-address  $dut GET http://198.51.100.1:8000/api/v1/duts
        ask dut-with-token     $dut GET $P/api/v1/duts -H "Authorization: Bearer $admin"
        ask dut-jobs           $dut POST $P/api/v1/jobs
        ask dut-others-boot    $dut GET $P/boot/52:54:00:11:22:02/boot.ipxe
        ask dut-slashes        $dut GET $P//api//v1///duts/
        sleep_until_forgiven
        ask dut-own-boot       $dut GET $P/boot/52:54:00:11:22:01/boot.ipxe
        ask dut-registers      $dut POST $P/api/v1/dut -H content-type:application/json -d '{"base_name": "x", "mac_address": "52:54:00:11:22:01"}'
        ask dut-for-another    $dut POST $P/api/v1/dut -H content-type:application/json -d '{"base_name": "x", "mac_address": "52:54:00:11:22:02"}'
        ask dut-admin-field    $dut POST $P/api/v1/dut -H content-type:application/json -d '{"base_name": "x", "mac_address": "52:54:00:11:22:01", "ready_for_service": true}'
        ask trusted            $neighbour GET http://203.0.113.1:8000/api/v1/tokens --interface 203.0.113.7
        ask stranger           $neighbour GET http://198.51.100.1:8000/api/v1/duts
        ask stranger-private   $neighbour GET $P/api/v1/duts
        ask local              $$ GET http://127.0.0.1:8000/api/v1/tokens
        ask local-private      $$ GET $P/api/v1/tokens
        ask local-uplink       $$ GET http://198.51.100.1:8000/api/v1/tokens
        ask local-web-page     $$ POST http://127.0.0.1:8000/api/v1/dut/a/retire -H "Origin: http://evil.example"
        ask local-rebound      $$ GET http://127.0.0.1:8000/api/v1/tokens -H "Host: evil.example" -A "Mozilla/5.0"
        ask local-bad-token    $$ GET http://127.0.0.1:8000/api/v1/duts -H "Authorization: Bearer nonsense"
        "#,
    );
    let expected = [
        ("dut-plain", "403"),
        ("dut-as-trusted", "403"),
        ("dut-trusted-switch", "403"),
        ("dut-other-address", "403"),
        ("dut-with-token", "403"),
        ("dut-jobs", "403"),
        ("dut-others-boot", "403"),
        ("dut-slashes", "403"),
        ("dut-registers", "200"),
        ("dut-for-another", "403"),
        ("dut-admin-field", "403"),
        ("trusted", "200"),
        ("stranger", "401"),
        ("stranger-private", "401"),
        ("local", "200"),
        ("local-private", "200"),
        ("local-uplink", "200"),
        ("local-web-page", "403"),
        ("local-rebound", "403"),
        ("local-bad-token", "401"),
    ];
    for (name, code) in expected {
        assert_eq!(said.code(name), code, "{name}\n{}", said.all());
    }
    assert!(!["401", "403", "429"].contains(&said.code("dut-own-boot")), "{}", said.all());
}

#[test]
fn a_token_lets_in_until_it_is_revoked_and_guessing_is_slowed_down() {
    let Some(farm) = Farm::find() else { return };
    let said = farm.run(
        r#"
        N=http://198.51.100.1:8000
        ask early      $neighbour GET $N/api/v1/duts -H "Authorization: Bearer $early"
        see=$(farmgate token add see --role viewer)
        farmgate token add see --role viewer 2>&1 | sed 's/^/twice /'
        farmgate token add 10.0.0.1 --role viewer 2>&1 | sed 's/^/name /'
        ask bearer     $neighbour GET $N/api/v1/duts -H "Authorization: Bearer $see"
        ask basic      $neighbour GET $N/api/v1/duts -u anybody:$see
        ask in-url     $neighbour GET http://x:$see@198.51.100.1:8000/api/v1/duts
        ask user-name  $neighbour GET $N/api/v1/duts -u $see:
        ask too-little $neighbour POST $N/api/v1/dut/a/retire -u x:$see
        body too-little-says $neighbour POST $N/api/v1/dut/a/retire -u x:$see
        body none-says $neighbour GET $N/api/v1/duts
        head none-head $neighbour GET $N/api/v1/duts
        farmgate token list | sed 's/^/list /'
        farmgate token revoke se 2>&1 | sed 's/^/unknown /'
        farmgate token revoke see
        ask revoked    $neighbour GET $N/api/v1/duts -u x:$see
        for i in $(seq 15); do ask guess$i $neighbour GET $N/api/v1/duts -u x:guess$i; done
        ask meanwhile  $neighbour GET $N/api/v1/duts -H "Authorization: Bearer $early"
        body audit     $$ GET http://127.0.0.1:8000/api/v1/audit
        "#,
    );
    for (name, code) in [
        ("early", "200"),
        ("bearer", "200"),
        ("basic", "200"),
        ("in-url", "200"),
        ("user-name", "401"),
        ("too-little", "403"),
        ("revoked", "401"),
        ("guess1", "401"),
        ("guess15", "429"),
        ("meanwhile", "200"),
    ] {
        assert_eq!(said.code(name), code, "{name}\n{}", said.all());
    }
    let has = |name: &str, words: &[&str]| {
        let text = said.lines(name).join("\n");
        for word in words {
            assert!(text.contains(word), "{name} lacks {word}: {text}\n{}", said.all());
        }
    };
    has("twice", &["already", "revoke"]);
    has("name", &["is no name"]);
    has("too-little-says", &["the role viewer", "needs: admin"]);
    has("none-says", &["farmgate token add", "TRUSTED_NETWORKS"]);
    has("none-head", &["www-authenticate: Bearer", "www-authenticate: Basic"]);
    has("list", &["early", "see", "viewer", "admin"]);
    has("unknown", &["did you mean", "see"]);
    let audit: Value = serde_json::from_str(&said.lines("audit").concat()).unwrap();
    let entries = audit["entries"].as_array().unwrap();
    let of = |what: &str| entries.iter().filter(|e| e["what"] == what).collect::<Vec<_>>();
    let statuses: Vec<_> = of("token-add").iter().map(|e| e["details"]["status"].clone()).collect();
    assert_eq!(statuses, [400.into(), 409.into(), 200.into(), Value::Null], "{audit:#}");
    assert_eq!(of("token-add").last().unwrap()["from"], "farmgate token", "the one made before the start");
    assert_eq!(of("token-revoke")[0]["who"], "local");
    let refused = of("refused");
    assert!((10..14).contains(&refused.len()), "those that guess do not fill it: {audit:#}");
    assert!(refused.iter().any(|e| e["who"] == "see" && e["from"] == "198.51.100.7"), "{audit:#}");
    assert!(!audit.to_string().contains("guess15"), "what was guessed is not in it");
}

#[test]
fn every_request_is_refused_to_strangers_and_to_a_role_that_is_too_low() {
    let Some(farm) = Farm::find() else { return };
    let document: Value = serde_json::from_str(include_str!("../../../../schema/openapi.json")).unwrap();
    let mut script = String::from(
        "N=http://198.51.100.1:8000\nsee=$(farmgate token add see --role viewer)\nuse=$(farmgate token add use --role user)\n",
    );
    let mut needs: BTreeMap<String, String> = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase();
            let path = path.replace("{id}", "7").replace("{n}", "0").replace("{mac}", "52:54:00:11:22:02");
            let path: String = path.replace(['{', '}'], "");
            let name = format!("{method}:{path}");
            for (who, how) in [("stranger", ""), ("viewer", "-u x:$see"), ("user", "-u x:$use")] {
                // Who is let in gets a stream without an end.
                if path != "/api/v1/events" || who == "stranger" {
                    script.push_str(&format!("ask {who}:{name} $neighbour {method} $N{path} {how}\n"));
                }
            }
            let description = operation["description"].as_str().unwrap();
            let need =
                description.trim_start_matches("Needs the role: ").split([',', ' ', '.']).next().unwrap();
            needs.insert(name, need.to_owned());
        }
    }
    assert!(needs.len() > 30);
    let said = farm.run(&script);
    let is_refused = |who: &str, name: &str| ["403", "429"].contains(&said.code(&format!("{who}:{name}")));
    for (name, need) in &needs {
        assert_eq!(said.code(&format!("stranger:{name}")), "401", "{name}\n{}", said.all());
        if name == "GET:/api/v1/events" {
            continue;
        }
        assert_eq!(is_refused("viewer", name), need != "viewer", "viewer: {name}\n{}", said.all());
        // Whose run 7 is, nobody knows: it is refused to a user as another's.
        let may = need == "viewer" || name == "POST:/api/v1/jobs";
        assert_eq!(is_refused("user", name), !may, "user: {name}\n{}", said.all());
    }
}

#[test]
fn a_run_belongs_to_who_submitted_it_and_to_who_has_its_resume_token() {
    let Some(farm) = Farm::find() else { return };
    let said = farm.run(
        r#"
        N=http://198.51.100.1:8000
        see=$(farmgate token add see --role viewer)
        ann=$(farmgate token add ann --role user)
        bob=$(farmgate token add bob --role user)
        cat >$dir/job.yml <<'JOB'
version: 1
target: {id: "52:54:00:11:22:01"}
deployment: {start: {kernel: {url: "http://127.0.0.1:9/none"}}}
JOB
        meta='metadata={"version": 1, "wait": true, "detach": true, "callback": {"port": 9}};type=application/json'
        ask submit-viewer $neighbour POST $N/api/v1/jobs -u x:$see -F "$meta" -F job=@$dir/job.yml
        ask submit-none   $neighbour POST $N/api/v1/jobs -F "$meta" -F job=@$dir/job.yml
        body submitted    $neighbour POST $N/api/v1/jobs -u x:$ann -F "$meta" -F job=@$dir/job.yml
        ask big           $neighbour POST $N/api/v1/jobs -u x:$ann -F "$meta" -F "job=@$dir/job.yml" -F "art=@/proc/self/exe"
        ask see-viewer    $neighbour GET $N/api/v1/job/1 -u x:$see
        ask cancel-viewer $neighbour POST $N/api/v1/job/1/cancel -u x:$see
        ask cancel-bob    $neighbour POST $N/api/v1/job/1/cancel -u x:$bob
        ask attach-bob    $neighbour POST $N/api/v1/job/1/attach -u x:$bob
        ask attach-ann    $neighbour POST $N/api/v1/job/1/attach -u x:$ann
        ask cancel-ann    $neighbour POST $N/api/v1/job/1/cancel -u x:$ann
        # A client that can come back, and leaves at once.
        up='metadata={"version": 1, "wait": true};type=application/json'
        head upgraded     $neighbour POST $N/api/v1/jobs -u x:$ann -H "Connection: Upgrade" -H "Upgrade: ci-tron-console" \
            -H "Farmgate-Resume: yes" -F "$up" -F job=@$dir/job.yml
        resume=$(sed -n 's/^upgraded farmgate-resume: \([0-9a-f]*\).*/\1/p' $dir/out)
        run=$(sed -n 's/^upgraded farmgate-run: \([0-9]*\).*/\1/p' $dir/out)
        ask resume-sees   $neighbour GET $N/api/v1/job/$run -H "Farmgate-Resume: $resume"
        ask resume-other  $neighbour GET $N/api/v1/job/1 -H "Farmgate-Resume: $resume"
        ask resume-all    $neighbour GET $N/api/v1/jobs -H "Farmgate-Resume: $resume"
        ask resume-wrong  $neighbour POST $N/api/v1/job/$run/cancel -H "Farmgate-Resume: guess"
        ask resume-dut    $dut POST $P/api/v1/job/$run/cancel -H "Farmgate-Resume: $resume"
        ask resume-ends   $neighbour POST $N/api/v1/job/$run/cancel -H "Farmgate-Resume: $resume"
        body audit        $$ GET http://127.0.0.1:8000/api/v1/audit
        "#,
    );
    for (name, code) in [
        ("submit-viewer", "403"),
        ("submit-none", "401"),
        ("big", "400"),
        ("see-viewer", "200"),
        ("cancel-viewer", "403"),
        ("cancel-bob", "403"),
        ("attach-bob", "403"),
        // It is let in: what it lacks is the upgrade.
        ("attach-ann", "426"),
        ("cancel-ann", "200"),
        ("resume-sees", "200"),
        ("resume-other", "401"),
        ("resume-all", "401"),
        ("resume-wrong", "401"),
        ("resume-dut", "403"),
        ("resume-ends", "200"),
    ] {
        assert_eq!(said.code(name), code, "{name}\n{}", said.all());
    }
    let audit: Value = serde_json::from_str(&said.lines("audit").concat()).unwrap();
    let entries = audit["entries"].as_array().unwrap();
    let by = |who: &str, what: &str| entries.iter().find(|e| e["who"] == who && e["what"] == what);
    assert_eq!(by("ann", "cancel").unwrap()["details"]["status"], 200, "{audit:#}");
    assert!(entries.iter().any(|e| e["what"] == "submit" && e["details"]["run"] == "1"), "{audit:#}");
    assert!(by("bob", "refused").is_some() && by("see", "refused").is_some(), "{audit:#}");
}
