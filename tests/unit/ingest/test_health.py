"""What health says of notifications that were given up."""

from ingest.health import Facts, document


def test_notifications_given_up_degrade() -> None:
    found = document(Facts(notifications_dead=3))
    assert found["state"] == "degraded"
    assert [reason["code"] for reason in found["reasons"]] == ["notifications_dead"]
    assert "3 notifications" in found["reasons"][0]["en"]
    assert document(Facts())["state"] == "ok"
