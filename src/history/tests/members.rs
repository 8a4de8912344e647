//! Members of groups: a sound history of two of them, and what breaks each property.

use super::{Property, Verdict, breaks, verdict};

/// One member has everything; another one comes, gets its share when the first one has let go, and all when that has left.
const MEMBERS: &str = r#"{"event":"history","version":1}
{"event":"call","call":1,"process":"a","at":1,"op":"heartbeat","group":"g","member":"m1","epoch":0,"owned":[]}
{"event":"return","call":1,"at":2,"result":"ok","member_epoch":1,"assigned":["t/0","t/1"]}
{"event":"call","call":2,"process":"a","at":3,"op":"heartbeat","group":"g","member":"m1","epoch":1}
{"event":"return","call":2,"at":4,"result":"ok","member_epoch":1}
{"event":"call","call":3,"process":"b","at":5,"op":"heartbeat","group":"g","member":"m2","epoch":0,"owned":[]}
{"event":"return","call":3,"at":6,"result":"ok","member_epoch":2,"assigned":[]}
{"event":"call","call":4,"process":"a","at":7,"op":"heartbeat","group":"g","member":"m1","epoch":1}
{"event":"return","call":4,"at":8,"result":"ok","member_epoch":1,"assigned":["t/0"]}
{"event":"call","call":5,"process":"a","at":9,"op":"commit_offsets","group":"g","member":"m1","member_epoch":1,"offsets":{"t/0":5}}
{"event":"return","call":5,"at":10,"result":"ok"}
{"event":"call","call":6,"process":"a","at":11,"op":"heartbeat","group":"g","member":"m1","epoch":1,"owned":["t/0"]}
{"event":"return","call":6,"at":12,"result":"ok","member_epoch":2}
{"event":"call","call":7,"process":"b","at":13,"op":"heartbeat","group":"g","member":"m2","epoch":2}
{"event":"return","call":7,"at":14,"result":"ok","member_epoch":2,"assigned":["t/1"]}
{"event":"call","call":8,"process":"b","at":15,"op":"heartbeat","group":"g","member":"m2","epoch":2}
{"event":"return","call":8,"at":16,"result":"ok","member_epoch":2}
{"event":"call","call":9,"process":"a","at":17,"op":"commit_offsets","group":"g","member":"m1","member_epoch":1,"offsets":{"t/0":6}}
{"event":"return","call":9,"at":18,"result":"failed"}
{"event":"call","call":10,"process":"a","at":19,"op":"heartbeat","group":"g","member":"m1","epoch":2}
{"event":"return","call":10,"at":20,"result":"ok","member_epoch":2}
{"event":"call","call":11,"process":"a","at":21,"op":"heartbeat","group":"g","member":"m1","epoch":-1}
{"event":"return","call":11,"at":22,"result":"ok","member_epoch":-1}
{"event":"call","call":12,"process":"a","at":23,"op":"commit_offsets","group":"g","member":"m1","member_epoch":2,"offsets":{"t/0":7}}
{"event":"return","call":12,"at":24,"result":"failed"}
{"event":"call","call":13,"process":"b","at":25,"op":"heartbeat","group":"g","member":"m2","epoch":2}
{"event":"return","call":13,"at":26,"result":"ok","member_epoch":3,"assigned":["t/0","t/1"]}
{"event":"call","call":14,"process":"b","at":27,"op":"heartbeat","group":"g","member":"m2","epoch":3}
{"event":"return","call":14,"at":28,"result":"ok","member_epoch":3}
{"event":"call","call":15,"process":"r","at":29,"op":"fetch_offsets","group":"g"}
{"event":"return","call":15,"at":30,"result":"ok","offsets":{"t/0":5}}
"#;

fn replaced(from: &str, to: &str) -> String {
    assert!(MEMBERS.contains(from), "{from}");
    MEMBERS.replacen(from, to, 1)
}

/// What follows upon the sound history: who asks what, and what is answered.
fn followed_by(more: &[(&str, &str)]) -> Verdict {
    let mut text = MEMBERS.to_owned();
    for (number, (asks, answered)) in (100..).zip(more) {
        let (at, then) = (2 * number, 2 * number + 1);
        text += &format!(
            "{{\"event\":\"call\",\"call\":{number},\"process\":\"x\",\"at\":{at},\"group\":\"g\",{asks}}}\n"
        );
        text += &format!("{{\"event\":\"return\",\"call\":{number},\"at\":{then},{answered}}}\n");
    }
    verdict(&text)
}

#[track_caller]
fn holds(verdict: &Verdict) {
    assert!(verdict.holds(), "{verdict:#?}");
}

#[test]
fn a_sound_history_speaks_of_groups() {
    let found = verdict(MEMBERS);
    holds(&found);
    assert!(Property::GROUPS.iter().all(|property| found.looked_at.contains_key(property)), "{found:#?}");
}

#[test]
fn two_owners_are_found() {
    // The second one is given what the first one has not let go: at once,
    let at_once = replaced(r#""member_epoch":2,"assigned":[]"#, r#""member_epoch":2,"assigned":["t/1"]"#);
    breaks(Property::OneOwner, &verdict(&at_once));
    // or as if it had.
    let kept = replaced(r#""owned":["t/0"]"#, r#""owned":["t/0","t/1"]"#);
    breaks(Property::OneOwner, &verdict(&kept));
    // Not so if nothing was heard of the first one any more: its session may have ended.
    let expired = kept.replacen(
        r#""at":20,"result":"ok","member_epoch":2"#,
        r#""at":20,"result":"ok","fenced":true"#,
        1,
    );
    holds(&verdict(&expired));
    // Nor if a heartbeat of long ago may have given it up.
    let lost = r#"{"event":"call","call":90,"process":"b","at":12,"op":"heartbeat","group":"g","member":"m2","epoch":2,"owned":[]}
{"event":"return","call":90,"at":13,"result":"unknown"}
{"event":"call","call":7"#;
    holds(&verdict(&kept.replacen(r#"{"event":"call","call":7"#, lost, 1)));
}

#[test]
fn an_epoch_that_goes_back_is_found() {
    let back = r#""at":28,"result":"ok","member_epoch":3"#;
    breaks(Property::GroupEpochMonotone, &verdict(&replaced(back, &back.replace(":3", ":2"))));
    // A newcomer is not behind those who are there.
    let newcomer = r#""op":"heartbeat","member":"m3","epoch":0,"owned":[]"#;
    let told =
        |epoch| followed_by(&[(newcomer, &format!(r#""result":"ok","member_epoch":{epoch},"assigned":[]"#))]);
    holds(&told(4));
    breaks(Property::GroupEpochMonotone, &told(2));
}

#[test]
fn a_commit_in_an_old_epoch_is_found() {
    let failed = r#""at":18,"result":"failed""#;
    breaks(Property::FenceMember, &verdict(&replaced(failed, r#""at":18,"result":"ok""#)));
    // Its answer is lost, and it takes effect.
    let unknown = replaced(failed, r#""at":18,"result":"unknown""#);
    holds(&verdict(&unknown));
    let fetched = r#""at":30,"result":"ok","offsets":{"t/0":5}"#;
    breaks(Property::FenceMember, &verdict(&unknown.replacen(fetched, &fetched.replace(":5}", ":6}"), 1)));
}

#[test]
fn a_member_that_has_left_and_is_heard_is_found() {
    let failed = r#""at":24,"result":"failed""#;
    breaks(Property::FenceMember, &verdict(&replaced(failed, r#""at":24,"result":"ok""#)));
    let beat = r#""op":"heartbeat","member":"m1","epoch":2"#;
    breaks(Property::FenceMember, &followed_by(&[(beat, r#""result":"ok","member_epoch":2"#)]));
    holds(&followed_by(&[(beat, r#""result":"ok","fenced":true"#)]));
}

#[test]
fn a_member_that_goes_on_in_an_epoch_of_long_ago_is_found() {
    let beat = r#""op":"heartbeat","member":"m2","epoch":2"#;
    breaks(Property::FenceMember, &followed_by(&[(beat, r#""result":"ok","member_epoch":3"#)]));
    // In the one before it may be, if it says what it owns: an answer was lost.
    let full = format!(r#"{beat},"owned":["t/1"]"#);
    holds(&followed_by(&[(&full, r#""result":"ok","member_epoch":3,"assigned":["t/0","t/1"]"#)]));
}

#[test]
fn a_member_that_was_told_that_it_is_none_and_is_heard_is_found() {
    let fenced = (r#""op":"heartbeat","member":"m2","epoch":3"#, r#""result":"ok","fenced":true"#);
    let commit =
        (r#""op":"commit_offsets","member":"m2","member_epoch":3,"offsets":{"t/1":9}"#, r#""result":"ok""#);
    breaks(Property::FenceMember, &followed_by(&[fenced, commit]));
    let join = (
        r#""op":"heartbeat","member":"m2","epoch":0,"owned":[]"#,
        r#""result":"ok","member_epoch":3,"assigned":[]"#,
    );
    holds(&followed_by(&[fenced, join, commit]));
}

#[test]
fn a_static_member_that_is_away_or_replaced_and_is_heard_is_found() {
    let join =
        |member: &str| format!(r#""op":"heartbeat","member":"{member}","instance":"i","epoch":0,"owned":[]"#);
    let told = r#""result":"ok","member_epoch":4,"assigned":[]"#;
    let away =
        (r#""op":"heartbeat","member":"s1","instance":"i","epoch":-2"#, r#""result":"ok","member_epoch":-2"#);
    let commit =
        (r#""op":"commit_offsets","member":"s1","member_epoch":4,"offsets":{"t/1":9}"#, r#""result":"ok""#);
    let (one, other) = (join("s1"), join("s2"));
    breaks(Property::FenceMember, &followed_by(&[(&one, told), away, commit]));
    breaks(Property::FenceMember, &followed_by(&[(&one, told), (&other, told), commit]));
    // It may come back, in the same epoch.
    holds(&followed_by(&[(&one, told), away, (&other, told), (&one, told), commit]));
}
