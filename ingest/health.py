"""How ingest feels, in words for people: each finding has a code, and a sentence in Chinese and in English.

`down` is for what stops everything that comes in, `degraded` for what is being lived with. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SESSION_LOST_SHOWN = 60.0  # s


@dataclass(frozen=True)
class Facts:
    """What is known at one instant; empty texts mean that there is no trouble of that kind."""

    broker_error: str = ""
    journal_error: str = ""
    journal_damage: int = 0
    store_error: str = ""
    database_error: str = ""
    rules_error: str = ""
    notifications_dead: int = 0  # within the last hour
    clock_distrusted: bool = False
    session_lost_ago: float | None = None  # s
    imbalance: int = 0


def document(facts: Facts) -> dict[str, Any]:
    """The `health` part of the status document."""
    reasons = [reason for reason in _reasons(facts) if reason]
    codes = {reason["code"] for reason in reasons}
    state = "ok"
    if reasons:
        state = "down" if codes & {"broker_unreachable", "journal_refuses"} else "degraded"
    return {"state": state, "reasons": reasons}


def _reasons(facts: Facts) -> Sequence[dict[str, str]]:
    found = []
    if facts.broker_error:
        text = facts.broker_error
        found.append(
            _reason("broker_unreachable", f"无法连接 MQTT 服务器：{text}", f"no connection to the broker: {text}")
        )
    if facts.journal_error:
        text = facts.journal_error
        zh = f"消息日志无法写入，已停止确认消息：{text}"
        found.append(
            _reason("journal_refuses", zh, f"the journal cannot be written, acknowledging has stopped: {text}")
        )
    if facts.store_error:
        text = facts.store_error
        zh = f"时序库无法写入，数据保留在消息日志中：{text}"
        found.append(
            _reason("store_down", zh, f"the telemetry store takes nothing, readings wait in the journal: {text}")
        )
    if facts.database_error:
        text = facts.database_error
        zh = f"关系数据库无法访问：{text}"
        found.append(_reason("database_down", zh, f"the relational database does not answer: {text}"))
    if facts.rules_error:
        text = facts.rules_error
        found.append(
            _reason("rules_failing", f"规则引擎无法提交结果：{text}", f"rules cannot commit their effects: {text}")
        )
    if facts.notifications_dead:
        count = facts.notifications_dead
        zh = f"最近一小时有 {count} 条通知未能送达，已放弃"
        found.append(_reason("notifications_dead", zh, f"{count} notifications were given up within the last hour"))
    if facts.clock_distrusted:
        zh = "多数设备的时间领先于本机，本机时钟可能有误"
        found.append(_reason("clock_distrusted", zh, "most devices are ahead of this machine: its clock may be wrong"))
    if facts.session_lost_ago is not None and facts.session_lost_ago < SESSION_LOST_SHOWN:
        ago = round(facts.session_lost_ago)
        zh = f"{ago} 秒前连接时 MQTT 服务器已丢失会话，其间排队的消息可能丢失"
        en = f"the broker had lost our session when we connected {ago} s ago; what it had queued may be gone"
        found.append(_reason("session_lost", zh, en))
    if facts.journal_damage:
        count = facts.journal_damage
        zh = f"消息日志中有 {count} 处损坏，已隔离"
        found.append(_reason("journal_damaged", zh, f"{count} damaged stretches in the journal were quarantined"))
    if facts.imbalance:
        zh = f"消息计数不平衡：{facts.imbalance}"
        found.append(_reason("unbalanced", zh, f"the balance of messages is off by {facts.imbalance}"))
    return found


def _reason(code: str, zh: str, en: str) -> dict[str, str]:
    return {"code": code, "zh": zh, "en": en}
