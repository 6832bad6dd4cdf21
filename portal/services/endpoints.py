"""Which server and login name a person's mailboxes have: the one place where project, person and provider data come together.

Reads rows, changes nothing, touches no secret. Used by the pages (to show it), by the services and by the worker (to connect).
"""
from __future__ import annotations

from config import MAIL_PORTS, PortRange
from engine.endpoint import BadAddress, Endpoint, Security, host_name, login_name
from engine.providers.catalogue import known, provider
from engine.providers.provider import LoginForm, Provider
from portal.models import Person, Project
from portal.services.common import NotUsable, has_hidden

STARTTLS_PORTS = (143, 110)
POP3_PORTS = (110, 995)


def provider_key(person: Person) -> str | None:
    """What the person chose, else what the project says; None: not known yet."""
    return person.provider or person.project.provider


def provider_of(person: Person) -> Provider:
    """The generic provider when it is not known."""
    return provider(provider_key(person))


def source_endpoint(person: Person) -> Endpoint:
    """The old server: the person's own entry, else the host of a provider chosen in place of the project's, else the project's,
    else the provider's usual host. Raises NotUsable when nobody has said where the old mailbox is."""
    project, key = person.project, provider_key(person)
    if person.source_host:
        port = person.source_port or 993
        security = Security.STARTTLS if port in STARTTLS_PORTS else Security.TLS
        return Endpoint(person.source_host, port, security, provider=key)
    chose_another = person.provider is not None and project.provider is not None and person.provider != project.provider
    if chose_another and provider(person.provider).imap_hosts:
        return _usual(person.provider, person.source_address)
    return project_source(project, person.source_address, key)


def project_source(project: Project, address: str, key: str | None = None) -> Endpoint:
    """The project's old server as it is for `address`. Raises NotUsable."""
    key = key or project.provider
    if project.source_host:
        return Endpoint(project.source_host, project.source_port, Security(project.source_security), project.source_ca_pem,
                        project.source_pinned_sha256, provider=key)
    return _usual(key, address)


def _usual(key: str | None, address: str) -> Endpoint:
    hosts = provider(key).hosts_for(address.rpartition("@")[2]) if key else ()
    if not hosts:
        raise NotUsable("provider", "还不知道旧邮箱的服务器。请选择旧邮箱的服务商，或填写服务器地址。",
                        "The old mail server is not known yet. Choose the provider or enter the server.")
    return Endpoint(hosts[0].host, hosts[0].port, hosts[0].security, provider=key)


def source_login(person: Person) -> str:
    if person.source_login:
        return person.source_login
    local = provider_of(person).login_form is LoginForm.LOCAL
    return person.source_address.rpartition("@")[0] if local else person.source_address


def destination_endpoint(project: Project) -> Endpoint:
    """Raises NotUsable when the project does not say yet."""
    if not project.destination_host:
        raise NotUsable("destination_host", "项目里还没有填新邮箱的服务器。", "The project does not name the new mail server yet.")
    return Endpoint(project.destination_host, project.destination_port, Security(project.destination_security),
                    project.destination_ca_pem, project.destination_pinned_sha256)


def destination_login(person: Person, *, with_project_secret: bool) -> str:
    """The project's template counts when the project's own secret is used (a master user), or when the person has no login of
    their own."""
    if person.destination_login and not with_project_secret:
        return person.destination_login
    return fill_template(person.project.destination_login_template, person.destination_address)


def fill_template(template: str, address: str) -> str:
    return template.replace("{address}", address).replace("{local}", address.rpartition("@")[0])


def mailbox(endpoint: Endpoint, login: str) -> str:
    """A server and a login in one spelling: what a provider counts refused logins by."""
    return f"{endpoint.host.lower()} {login.casefold()}"


# --- what people type -----------------------------------------------------------------------------------------------------


def checked_host(text: str, field: str) -> str:
    """Raises NotUsable."""
    try:
        return host_name(text)
    except BadAddress:
        raise NotUsable(field, "服务器地址不对，例如 imap.example.com。",
                        "That is not a server name; an example: imap.example.com.") from None


def checked_port(port: int, field: str, allowed: tuple[PortRange, ...] = MAIL_PORTS) -> int:
    """Raises NotUsable when the operator does not allow mail servers on this port (ALLOWED_PORTS), or it is one of POP3, which
    is not spoken yet."""
    if port in POP3_PORTS:
        raise NotUsable(field, f"{port} 是 POP3 的端口，现在只支持 IMAP。IMAP 一般用 993。",
                        f"{port} is a port of POP3; only IMAP is supported so far. IMAP usually has 993.")
    if not any(port in ports for ports in allowed):
        shown = [str(ports) for ports in allowed if str(ports) not in map(str, POP3_PORTS)]
        raise NotUsable(field, f"端口只能是 {'、'.join(shown)}。", f"The port must be one of {', '.join(shown)}.")
    return port


def checked_security(text: str, field: str) -> str:
    """TLS or STARTTLS; a plain connection is no choice in the portal."""
    if text not in (Security.TLS, Security.STARTTLS):
        raise NotUsable(field, "只能选 TLS 或 STARTTLS。", "Choose TLS or STARTTLS.")
    return text


def checked_login(text: str, field: str) -> str:
    """Raises NotUsable."""
    refused = NotUsable(field, "登录名是空的，或含有看不见的符号。", "The login name is empty or holds a hidden character.")
    if has_hidden(text.strip()):
        raise refused
    try:
        return login_name(text.strip())
    except BadAddress:
        raise refused from None


def checked_provider(key: str | None, field: str) -> str | None:
    if key and not known(key):
        raise NotUsable(field, "没有这个服务商，请从列表里选。", "There is no such provider; choose one from the list.")
    return key or None
