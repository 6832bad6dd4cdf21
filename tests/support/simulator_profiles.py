"""How each provider's IMAP server greets, what it offers, refuses and gets wrong. Data only; the server is provider_simulator.py.

Every line is from facts: providers sections 1, 4-13 and engine section 5 (transcripts); what is not known there is not invented,
but taken from the plain profile.
"""
from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Profile:
    key: str
    greeting: bytes
    before: str                       # CAPABILITY before LOGIN
    after: str                        # CAPABILITY after LOGIN
    separator: str = "/"
    prefix: str = ""                  # of the personal namespace
    login_ok: bytes = b"OK LOGIN completed"
    login_refused: bytes = b"NO [AUTHENTICATIONFAILED] Authentication failed."
    id_reply: bytes = b'("name" "Simulator")'
    id_before_select: bool = False    # NetEase, Coremail: N01
    sasl_ir_refused: bytes = b""      # AUTHENTICATE with an initial response: N04
    authenticate_refused: bytes = b""  # AUTH=PLAIN is advertised, not served: S02
    hang_on: frozenset[str] = frozenset()
    roles_in_list: bool = True        # LIST shows role attributes without being asked
    xlist_attributes: tuple[tuple[str, str], ...] = ()  # SPECIAL-USE attribute -> what XLIST says
    folders: tuple[tuple[str, tuple[str, ...]], ...] = (("INBOX", ()),)
    uidvalidity: int | None = None    # constant for every folder (Alibaba 2, NetEase 1)
    first_uid: int = 1
    uid_step: int = 1
    status_uidnext: bool = True       # NetEase leaves UIDNEXT out of STATUS
    select_uidnext: bool = True       # it is told when a folder is opened
    keywords: str = "stored"          # stored | dropped | refused
    permanent_flags: str = "\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*"
    uid_bodies: bool = True           # 263: UID FETCH of bodies answers nothing, FETCH by number does
    uid_lists: bool = True            # UID FETCH of anything else answers something
    header_only: bool = False         # 263: only the header arrives
    strict_uid_sets: bool = False     # Tencent: descending sets and "*" are BAD
    missing_text: bytes = b"OK UID FETCH completed"
    size_guess: bool = False          # Exchange: RFC822.SIZE is an estimate
    search: str = "works"             # works | nothing (OK, no hits) | refused
    case_insensitive: bool = False
    refused_name_characters: str = ""
    refuse_nul: bytes = b""
    takes_empty: bool = False         # stores a message of zero octets (Dovecot does not)
    too_big: bytes = b"NO [TOOBIG] Message too large"
    over_quota: bytes = b"NO [OVERQUOTA] Quota exceeded (mailbox for user is full)"
    max_connections: int | None = None
    too_many: bytes = b"BYE Too many connections"
    max_command: int = 65_536         # octets of a line; Exchange 10 240 (facts: providers §11.3)
    lower_case: bool = False          # legal: keywords are case-insensitive (RFC 3501 §9)

    def offers(self, capability: str) -> bool:
        return capability.upper() in self.after.upper().split()

    def append_limit(self) -> int | None:
        found = [word[12:] for word in self.after.upper().split() if word.startswith("APPENDLIMIT=")]
        return int(found[0]) if found and found[0] else None


DOVECOT_CAPABILITIES = ("IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE SORT THREAD=REFERENCES MULTIAPPEND UNSELECT CHILDREN "
                        "NAMESPACE UIDPLUS LIST-EXTENDED ESEARCH SEARCHRES WITHIN LIST-STATUS BINARY MOVE SPECIAL-USE STATUS=SIZE QUOTA "
                        "LITERAL+")

TENCENT_FOLDERS = (
    ("INBOX", ("\\HasNoChildren",)), ("Sent Messages", ("\\HasNoChildren",)), ("Drafts", ("\\HasNoChildren",)),
    ("Deleted Messages", ("\\HasNoChildren",)), ("Junk", ("\\HasNoChildren",)),
    ("&UXZO1mWHTvZZOQ-", ("\\NoSelect", "\\HasChildren")), ("&UXZO1mWHTvZZOQ-/&mHl27g-", ("\\HasNoChildren",)),
)
NETEASE_FOLDERS = (
    ("INBOX", ()), ("&g0l6P3ux-", ("\\Drafts",)), ("&XfJT0ZAB-", ("\\Sent",)), ("&XfJSIJZk-", ("\\Trash",)),
    ("&V4NXPpCuTvY-", ("\\Junk",)), ("&dcVr0mWHTvZZOQ-", ()), ("&Xn9USpCuTvY-", ()), ("&i6KWBZCuTvY-", ()),
)
GMAIL_FOLDERS = (
    ("INBOX", ("\\HasNoChildren",)), ("[Gmail]", ("\\Noselect", "\\HasChildren")), ("[Gmail]/All Mail", ("\\All",)),
    ("[Gmail]/Drafts", ("\\Drafts",)), ("[Gmail]/Sent Mail", ("\\Sent",)), ("[Gmail]/Spam", ("\\Junk",)),
    ("[Gmail]/Starred", ("\\Flagged",)), ("[Gmail]/Important", ("\\Important",)), ("[Gmail]/Trash", ("\\Trash",)),
    ("&mHl27g-", ("\\HasNoChildren",)),
)
EXCHANGE_FOLDERS = (
    ("INBOX", ()), ("Sent Items", ()), ("Drafts", ()), ("Deleted Items", ()), ("Junk Email", ()), ("Archive", ()),
    ("Calendar", ()), ("Contacts", ()), ("Tasks", ()), ("Outbox", ()),
)

_PLAIN = Profile("plain", b"OK IMAP4rev1 ready", "IMAP4rev1", "IMAP4rev1")

_TENCENT = Profile(
    "qq", b"OK [CAPABILITY IMAP4 IMAP4rev1 ID AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2 NAMESPACE] QQMail XMIMAP4Server ready",
    "IMAP4rev1 XLIST MOVE IDLE ID UIDPLUS SASL-IR AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2 NAMESPACE CHILDREN",
    "IMAP4 IMAP4rev1 XLIST MOVE IDLE XAPPLEPUSHSERVICE NAMESPACE CHILDREN ID UIDPLUS COMPRESS=DEFLATE",
    login_ok=b"OK Success login ok",
    login_refused=(b"NO Login fail. Account is abnormal, service is not open, password is incorrect, login frequency limited, or "
                   b"system is busy. More information at http://service.mail.qq.com/cgi-bin/help?subtype=1&&id=28&&no=1001256"),
    authenticate_refused=b"BAD AUTHENTICATE with LOGIN", roles_in_list=False, folders=TENCENT_FOLDERS,
    xlist_attributes=(("INBOX", "\\Inbox"), ("Sent Messages", "\\Sent"), ("Drafts", "\\Drafts"), ("Deleted Messages", "\\Trash"),
                      ("Junk", "\\Spam")),
    keywords="dropped", strict_uid_sets=True, missing_text=b"OK Mails not exist!", search="nothing")

_NETEASE = Profile(
    "netease", b"OK Coremail System IMap Server Ready(163com[a8b2d1])",
    "IMAP4rev1 XLIST SPECIAL-USE ID LITERAL+ STARTTLS APPENDLIMIT=71680000 SASL-IR AUTH=XOAUTH2",
    "IMAP4rev1 XLIST SPECIAL-USE ID LITERAL+ STARTTLS XAPPLEPUSHSERVICE UIDPLUS X-CM-EXT-1 APPENDLIMIT=71680000 SASL-IR "
    "AUTH=XOAUTH2",
    login_ok=b"OK LOGIN completed", login_refused=b"NO LOGIN Login error or password error",
    id_reply=b'("name" "Coremail Imap" "vendor" "Mailtech" "TransID" "7f")', id_before_select=True,
    sasl_ir_refused=b"BAD Request not ending with \\r\\n", hang_on=frozenset({"ENABLE"}), folders=NETEASE_FOLDERS,
    uidvalidity=1, first_uid=1320900, uid_step=7, status_uidnext=False, search="nothing")

PROFILES: dict[str, Profile] = {profile.key: profile for profile in (
    _PLAIN,
    Profile("dovecot", b"OK [CAPABILITY IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ AUTH=PLAIN] Dovecot ready.",
            "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ STARTTLS AUTH=PLAIN", DOVECOT_CAPABILITIES,
            login_ok=b"OK [CAPABILITY " + DOVECOT_CAPABILITIES.encode() + b"] Logged in", roles_in_list=False,
            folders=(("INBOX", ()), ("Sent", ("\\Sent",)), ("Drafts", ("\\Drafts",)), ("Junk", ("\\Junk",)), ("Trash", ("\\Trash",)))),
    _TENCENT,
    replace(_TENCENT, key="exmail"),
    _NETEASE,
    replace(_NETEASE, key="qiye163", login_refused=b"NO ERR.LOGIN.PASSERR"),
    replace(_NETEASE, key="coremail", greeting=b"OK Coremail System IMap Server Ready(mail.example.cn)",
            folders=(("INBOX", ()), ("Sent Items", ()), ("Drafts", ()), ("Trash", ()), ("Junk E-mail", ()), ("Virus Items", ()))),
    Profile("m263", b"OK IMAP4 server ready", "IMAP4rev1 ID UIDPLUS", "IMAP4rev1 ID UIDPLUS", uid_bodies=False, header_only=False,
            folders=(("INBOX", ()), ("&XfJT0ZAB-", ()), ("&g0l6P3ux-", ()), ("&XfJSIJZk-", ()), ("&V4NXPpCuTvY-", ()))),
    Profile("m263_headers", b"OK IMAP4 server ready", "IMAP4rev1 ID UIDPLUS", "IMAP4rev1 ID UIDPLUS", header_only=True),
    Profile("aliqiye", b"OK AliYun IMAP Server Ready(10.0.13.105)",
            "IMAP4rev1 IDLE XLIST UIDPLUS ID SASL-IR AUTH=XOAUTH AUTH=EXTERNAL",
            "IMAP4rev1 IDLE XLIST UIDPLUS ID SASL-IR AUTH=XOAUTH AUTH=EXTERNAL",
            folders=(("INBOX", ()), ("&XfJT0ZAB-", ("\\Sent",)), ("&g0l6Pw-", ("\\Drafts",)), ("&XfJSIJZkkK5O9g-", ("\\Trash",)),
                     ("&V4NXPpCuTvY-", ("\\Junk",))),
            uidvalidity=2, keywords="dropped", permanent_flags="\\Answered \\Flagged \\Deleted \\Seen \\Draft",
            search="refused",
            refused_name_characters="+*\\/"),
    Profile("gmail", b"OK Gimap ready for requests from 192.0.2.7 w24mb1", "IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN "
            "SASL-IR AUTH=XOAUTH2 AUTH=PLAIN AUTH=OAUTHBEARER",
            "IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN X-GM-EXT-1 UIDPLUS COMPRESS=DEFLATE ENABLE MOVE CONDSTORE "
            "ESEARCH UTF8=ACCEPT LIST-EXTENDED LIST-STATUS LITERAL- SPECIAL-USE APPENDLIMIT=35651584",
            login_refused=b"NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)", folders=GMAIL_FOLDERS, case_insensitive=True,
            max_connections=15, too_many=b"NO [ALERT] Too many simultaneous connections. (Failure)"),
    Profile("exchange", b"OK The Microsoft Exchange IMAP4 service is ready.",
            "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=NTLM AUTH=GSSAPI UIDPLUS MOVE ID CHILDREN IDLE NAMESPACE LITERAL+",
            "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=NTLM AUTH=GSSAPI UIDPLUS MOVE ID CHILDREN IDLE NAMESPACE LITERAL+",
            login_refused=b"NO LOGIN failed.", roles_in_list=False, folders=EXCHANGE_FOLDERS, keywords="dropped", size_guess=True,
            max_command=10_240, case_insensitive=True, permanent_flags="\\Answered \\Flagged \\Deleted \\Seen \\Draft"),
    Profile("sina", b"OK IMAP4rev1 ready", "IMAP4rev1 ID UIDPLUS AUTH=PLAIN", "IMAP4rev1 ID UIDPLUS",
            login_refused=b"NO LOGIN auth error", authenticate_refused=b"BAD AUTHENTICATE with LOGIN"),
)}
THROTTLED_BY_EXCHANGE = b"BAD Request is throttled. Suggested Backoff Time: 92415 milliseconds"
THROTTLED_BY_GMAIL = b"BYE [OVERQUOTA] Account exceeded command or bandwidth limits."
THROTTLED_BY_TENCENT = b"NO Login fail. Login frequency limited"


def with_capabilities(profile: Profile, *add: str, without: tuple[str, ...] = ()) -> Profile:
    """The same server with other capabilities after LOGIN (and the greeting and LOGIN silent about them)."""
    words = [word for word in profile.after.split() if word.upper() not in {w.upper() for w in without}] + list(add)
    plain_greeting = b"OK ready" if b"[CAPABILITY" in profile.greeting else profile.greeting
    return replace(profile, after=" ".join(words), greeting=plain_greeting, login_ok=b"OK LOGIN completed")
