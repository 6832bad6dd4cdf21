"""Relays of ours: where they are and the token that opens them.

Always: the token is sealed like a person's secret; a relay that a project uses is not removed.
"""
from __future__ import annotations

import re

from cryptography.x509 import load_pem_x509_certificates
from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.endpoint import Secret
from portal.models import Owner, Project, Relay
from portal.security.vault import Sealer
from portal.services.common import Actor, AlreadyExists, NotGiven, NotUsable, WrongState, audit, one_transaction
from portal.services.credentials import RELAY_TOKEN, destroy_credentials, store_secret
from portal.services.endpoints import checked_host

_TOKEN = re.compile(r"rt1\.[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{43}")


@one_transaction
def create_relay(session: Session, actor: Actor, name: str, host: str, port: int, token: Secret, sealer: Sealer,
                 ca_pem: str | None = None) -> Relay:
    """Raises NotGiven, NotUsable, AlreadyExists."""
    name = checked_name(name)
    if session.scalar(select(Relay.id).where(Relay.name == name)):
        raise AlreadyExists("name", f"已经有叫「{name}」的中继。", f"There is already a relay called {name}.")
    relay = Relay(name=name, host=checked_host(host, "host"), port=_port(port), ca_pem=checked_ca(ca_pem, "ca_pem"))
    session.add(relay)
    session.flush()
    _store_token(session, relay, token, sealer)
    audit(session, actor, "create.relay", relay, name=name, host=relay.host, port=relay.port, own_ca=relay.ca_pem is not None)
    return relay


@one_transaction
def change_relay(session: Session, actor: Actor, relay: Relay, host: str, port: int, token: Secret | None, sealer: Sealer,
                 ca_pem: str | None = None) -> Relay:
    """Without a token the stored one stays, unless the relay is now another host: a token is never sent to a new place.
    Raises NotGiven, NotUsable."""
    host, port = checked_host(host, "host"), _port(port)
    if not token and (host, port) != (relay.host, relay.port):
        raise NotGiven("token", "换了地址，要重新填写令牌。", "The address changed; enter the token again.")
    was = f"{relay.host}:{relay.port}"
    relay.host, relay.port, relay.ca_pem = host, port, checked_ca(ca_pem, "ca_pem")
    if token:
        _store_token(session, relay, token, sealer)
    audit(session, actor, "change.relay", relay, was=was, host=host, port=port, new_token=bool(token), own_ca=relay.ca_pem is not None)
    return relay


@one_transaction
def remove_relay(session: Session, actor: Actor, relay: Relay) -> None:
    """Raises WrongState while a project goes through it."""
    user = session.scalar(select(Project.name).where(Project.relay_id == relay.id).limit(1))
    if user is not None:
        raise WrongState(None, f"项目「{user}」还在用这个中继。", f"The project {user} still goes through this relay.")
    audit(session, actor, "remove.relay", relay, name=relay.name)
    destroy_credentials(session, actor, Owner.RELAY, relay.id, reason="removed")
    session.delete(relay)


def _store_token(session: Session, relay: Relay, token: Secret, sealer: Sealer) -> None:
    token = Secret(token.reveal().strip())
    if not token:
        raise NotGiven("token", "要填中继的令牌。", "The relay's token is needed.")
    if not _TOKEN.fullmatch(token.reveal()):
        raise NotUsable("token", "令牌的格式是 rt1.名字.43 个字符，请核对是否复制完整。",
                        "A token reads rt1.name.43 characters; check that all of it was copied.")
    store_secret(session, Owner.RELAY, relay.id, RELAY_TOKEN, token, sealer, None)


def checked_name(name: str) -> str:
    """A name for people, up to 80 characters. Raises NotGiven, NotUsable."""
    name = " ".join(name.split())
    if not name:
        raise NotGiven("name", "请填名称。", "Enter a name.")
    if len(name) > 80 or not name.isprintable():
        raise NotUsable("name", "名称最多 80 个字，不能有看不见的符号。", "A name has at most 80 characters, none of them hidden.")
    return name


def checked_ca(pem: str | None, field: str) -> str | None:
    """Certificates that replace the system's trust roots for one server; empty: none. Raises NotUsable."""
    if pem is None or not pem.strip():
        return None
    try:
        if len(pem) > 200_000 or not load_pem_x509_certificates(pem.encode()):
            raise ValueError
    except ValueError:
        raise NotUsable(field, "这不是 PEM 格式的证书（以 -----BEGIN CERTIFICATE----- 开头）。",
                        "That is not a certificate in PEM form (beginning with -----BEGIN CERTIFICATE-----).") from None
    return pem.strip() + "\n"


def _port(port: int) -> int:
    if not 0 < port < 65536:
        raise NotUsable("port", "端口是 1 到 65535 的数字。", "A port is a number from 1 to 65535.")
    return port
