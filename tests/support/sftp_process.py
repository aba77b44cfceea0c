"""A program that serves a folder over SFTP until it is ended, and prints its port: ``sftp_process.py FOLDER``."""

import asyncio
import os
import sys

import asyncssh


class AnyUser(asyncssh.SSHServer):
    """Everybody may come in, without a password."""

    def begin_auth(self, username: str) -> bool:
        return False


async def serve(folder: str) -> None:
    """Serve a folder, on any free port of the loopback interface."""
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=AnyUser,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=os.fsencode(folder)),
    )
    print(server.get_port(), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
