"""The client that was generated from the API's description, through the life of a key."""

import os
import sys

sys.path.insert(0, os.environ["GENERATED_CLIENT"])

from keygate_admin_api_client import AuthenticatedClient  # noqa: E402
from keygate_admin_api_client import models  # noqa: E402
from keygate_admin_api_client.api.fleet import list_gateways, show_store  # noqa: E402
from keygate_admin_api_client.api.keys import (  # noqa: E402
    create_key,
    edit_key,
    find_key,
    key_history,
    key_usage,
    list_keys,
    revoke_key,
    rotate_key,
    show_key,
)

client = AuthenticatedClient(base_url=os.environ["ADMIN_URL"], token=os.environ["ADMIN_TOKEN"])


def check(what, condition):
    if not condition:
        sys.exit(f"wrong: {what}")


def create(label, idempotency_key):
    body = models.NewKey(label=label, environment=models.Environment.LIVE, team="generated")
    return create_key.sync_detailed(client=client, body=body, idempotency_key=idempotency_key)


made = create("Generated Client", "generated-1")
check("a key is made", made.status_code == 201 and made.parsed.key.startswith("sk_live_"))
check("its dates are dates", made.parsed.created_at.year >= 2025)
key_id = made.parsed.id

again = create("Generated Client", "generated-1")
check("the request is known", again.status_code == 200 and again.parsed.key_shown and again.parsed.id == key_id)
other = create("Another", "generated-1")
check("it is another", other.status_code == 422 and other.parsed.code == "idempotency_key_reused")

page = list_keys.sync(
    client=client,
    q="GENERATED",
    team="generated",
    status=models.ListKeysStatus.ACTIVE,
    sort=models.ListKeysSort.LABEL,
    total=True,
)
check("it is listed", page.total == 1 and [key.id for key in page.data] == [key_id] and page.next_cursor is None)
check("it is marked", page.data[0].marks == [models.Mark.NEVER_USED])

shown = show_key.sync_detailed(key_id, client=client)
etag = shown.headers["etag"]
check("it is shown", shown.parsed.label == "Generated Client" and shown.parsed.expires_at is None)
edit = models.KeyEdit(label="Renamed", expires_in="30d")
edited = edit_key.sync_detailed(key_id, client=client, body=edit, if_match=etag)
check("it is edited", edited.status_code == 200 and edited.parsed.label == "Renamed")
stale = edit_key.sync_detailed(key_id, client=client, body=edit, if_match=etag)
check("what was seen is old", stale.status_code == 412 and stale.parsed.current.label == "Renamed")

found = find_key.sync_detailed(client=client, body=models.FoundKey(key=made.parsed.key))
check("it is found", found.status_code == 200 and found.parsed.id == key_id)
nobodys = find_key.sync(client=client, body=models.FoundKey(key="sk_live_" + "0" * 64))
check("nobody's is not", nobodys.code == "not_found")

rotated = rotate_key.sync(key_id, client=client, body=models.NewRotation(grace="1h"))
check("it is rotated", rotated.replaces == key_id and rotated.old.replaced_by == rotated.id)
revoked = revoke_key.sync(key_id, client=client)
check("it is revoked", revoked.status == models.KeyStatus.REVOKED and revoked.revocation.acknowledged == 1)

usage = key_usage.sync(key_id, client=client, days=7)
check("uses are counted", len(usage.days) == 7 and usage.days[-1].uses == 0)
history = key_history.sync(key_id, client=client)
check("it has a history", len(history.data) == 5)
missing = show_key.sync("key_" + "0" * 20, client=client)
check("a problem is one", missing.code == "not_found" and missing.request_id)

check("the fleet is seen", len(list_gateways.sync(client=client).data) == 1)
check("the store is seen", show_store.sync(client=client).mismatch is None)
stranger = AuthenticatedClient(base_url=os.environ["ADMIN_URL"], token="not-the-token")
check("a stranger is refused", list_keys.sync(client=stranger).code == "unauthorized")
print("all is well")
