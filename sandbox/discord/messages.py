"""Messages: writing, editing and deleting them under Discord's rules, with their files and mentions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sandbox.discord.files import Attachment, Json, Upload
from sandbox.discord.rules import ApiError, Limits, bad_form, check_message, require
from sandbox.discord.world import (
    COMPONENTS_V2,
    EPHEMERAL,
    LOADING,
    Channel,
    Message,
    Role,
    User,
    World,
    numbered,
    rows,
    walk,
)

SUPPRESS_EMBEDS, SUPPRESS_NOTIFICATIONS = 1 << 2, 1 << 12
MAY_BE_SENT = SUPPRESS_EMBEDS | EPHEMERAL | SUPPRESS_NOTIFICATIONS | COMPONENTS_V2

REMEMBERS_NONCES = timedelta(minutes=3)
"""Discord promises "a few minutes"."""

Uploads = dict[int, Upload]


class Messages:
    """Creates, edits and deletes messages. Everything is checked before anything is changed."""

    def __init__(self, world: World, limits: Limits) -> None:
        self._world = world
        self._limits = limits

    def post(
        self,
        *,
        channel: Channel,
        author: User,
        body: Json,
        uploads: Uploads,
        kind: int = 0,
        visible_to: User | None = None,
        metadata: Json | None = None,
        command_name: str | None = None,
        reference: Message | None = None,
        loading: bool = False,
    ) -> Message:
        """Write a new message. If its `nonce` was used a few minutes ago, the existing message is returned."""
        nonce = str(body["nonce"]) if body.get("nonce") is not None else None
        if nonce is not None and body.get("enforce_nonce"):
            require(len(nonce) <= 25, "nonce: 25 characters at most")
            recently = datetime.now(UTC) - REMEMBERS_NONCES
            for earlier in reversed(channel.messages.values()):
                if earlier.nonce == nonce and earlier.author is author and earlier.created_at > recently:
                    return earlier
        flags = int(body.get("flags") or 0)
        require(not flags & ~MAY_BE_SENT, f"flags: {flags}")
        flags = (flags & ~EPHEMERAL) | (EPHEMERAL if visible_to is not None else 0) | (LOADING if loading else 0)
        message = Message(
            id=self._world.new_id(),
            channel=channel,
            author=author,
            kind=kind,
            flags=flags,
            visible_to=visible_to,
            metadata=metadata,
            command_name=command_name,
            reference=reference,
            nonce=nonce,
        )
        if not loading:
            self._fill(message, body, uploads)
        channel.messages[message.id] = message
        self._world.feed.publish("message", message)
        return message

    def edit(self, message: Message, body: Json, uploads: Uploads) -> Message:
        """Change what the body names and leave the rest; files as the `attachments` list says."""
        flags = int(body["flags"]) if body.get("flags") is not None else message.flags & ~LOADING
        if message.flags & COMPONENTS_V2:
            flags |= COMPONENTS_V2  # once set it stays
        kept = message.flags & EPHEMERAL
        before, message.flags = message.flags, (flags & MAY_BE_SENT & ~EPHEMERAL) | kept
        try:
            self._fill(message, body, uploads)
        except ApiError:
            message.flags = before
            raise
        if not before & LOADING:
            message.edited_at = datetime.now(UTC)
        self._world.feed.publish("message_edited", message)
        return message

    def delete(self, message: Message) -> None:
        message.channel.messages.pop(message.id, None)
        for attachment in message.attachments:
            self._world.attachments.pop(attachment.id, None)
        self._world.feed.publish("message_deleted", message)

    def _fill(self, message: Message, body: Json, uploads: Uploads) -> None:
        """Check the message as it would be, then store it."""
        for upload in uploads.values():
            if len(upload.data) > self._limits.file_bytes:
                raise ApiError(413, 40005, "Request entity too large")
        files = self._files(message, body, uploads)
        would_be: Json = {
            "content": body.get("content", message.content),
            "embeds": body.get("embeds", message.embeds),
            "components": body.get("components", message.components),
        }
        names = [file.upload.filename if isinstance(file, Attachment) else file.filename for file in files]
        require(len(names) <= 10, "attachments: ten at most")
        check_message(would_be, filenames=names, flags=message.flags)

        message.content = would_be["content"] or ""
        message.embeds = would_be["embeds"] or []
        message.components = numbered(would_be["components"] or [])
        message.attachments = [
            file if isinstance(file, Attachment) else self._world.keep(file, message.channel) for file in files
        ]
        for attachment in message.attachments:
            attachment.ephemeral = message.visible_to is not None
        if "allowed_mentions" in body or not message.revisions:
            message.allowed_mentions = body.get("allowed_mentions")
        self._mention(message)
        message.revisions.append(message.text)

    def _files(self, message: Message, body: Json, uploads: Uploads) -> Sequence[Attachment | Upload]:
        if body.get("attachments") is None:
            return [*message.attachments, *uploads.values()]
        existing = {str(attachment.id): attachment for attachment in message.attachments}
        files: list[Attachment | Upload] = []
        left = dict(uploads)
        for entry in body["attachments"]:
            listed = str(entry.get("id"))
            if listed in existing:
                existing[listed].description = entry.get("description", existing[listed].description)
                files.append(existing[listed])
                continue
            upload = left.pop(int(listed), None) if listed.isdigit() else None
            if upload is None:
                raise bad_form(f"attachments: no file with id {listed}")
            description = entry.get("description")
            require(len(description or "") <= 1024, "attachments: description of 1024 or fewer")
            filename = entry.get("filename") or upload.filename
            files.append(Upload(filename=filename, data=upload.data, description=description))
        return [*files, *left.values()]

    def _mention(self, message: Message) -> None:
        """Record who is pinged. An answer to a command or a webhook pings users at most, unless it says otherwise."""
        words = "\n".join(
            [message.content, *(p.get("content") or "" for p in walk(message.components) if p.get("type") == 10)]
        )
        allowed = message.allowed_mentions
        if allowed is None:
            allowed = {"parse": ["users"] if message.metadata else ["users", "roles", "everyone"]}
        parse: list[str] = rows(allowed, "parse")
        users, roles = {str(i) for i in rows(allowed, "users")}, {str(i) for i in rows(allowed, "roles")}

        def named(pattern: str, kind: str, chosen: set[str]) -> list[int]:
            found = dict.fromkeys(re.findall(pattern, words))
            return [int(one) for one in found if kind in parse or one in chosen]

        world, server = self._world, message.channel.server
        message.mentions = [world.users[i] for i in named(r"<@!?(\d+)>", "users", users) if i in world.users]
        known: dict[int, Role] = {role.id: role for role in server.roles} if server else {}
        message.mentioned_roles = [known[i] for i in named(r"<@&(\d+)>", "roles", roles) if i in known]
        message.mentions_everyone = "everyone" in parse and bool(re.search(r"@(everyone|here)\b", words))
