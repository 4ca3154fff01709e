#!/usr/bin/env python3
"""Runs a command while holding a lock, so that it runs on one machine at a time:

    examples/locked_job.py jobs/nightly ./backup.sh

The command finds the fence in TENURE_FENCE: what it writes to should refuse lesser ones. It is ended, by TERM and then
by KILL, before the lock can be another's. Needs Linux, Python 3.11 and its standard library. Settings and exit codes
are those of locked-job.sh, and so is what it cannot do. `Client` and `Lock` serve programs in Python, too.
"""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid

# Another member may do better, or know better.
BUSY = (502, 503, 504)
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Lost(Exception):
    """The lock may not be believed in any longer."""


class Refused(Exception):
    """A member refused, and others would too."""

    def __init__(self, status, problem):
        super().__init__(problem.get("detail", f"status {status}"))
        self.status = status


class Unreachable(Exception):
    """No member answered in time: nobody knows what became of the request."""


class Moment:
    """A moment on two clocks: one counts the time in which the machine is suspended, the other nobody slews."""

    def __init__(self):
        self.boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.raw = time.clock_gettime(time.CLOCK_MONOTONIC_RAW)

    def elapsed(self):
        """Seconds since then: the greater of what the clocks show."""
        now = Moment()
        return max(now.boot - self.boot, now.raw - self.raw)


class Client:
    """Asks the members of a cluster in turn until one answers. A token is read from its file for each request."""

    def __init__(self, members, token_file=None):
        self.token_file = token_file
        self.who = self._read_who()
        self.members = [urllib.parse.urlsplit(member) for member in members]
        for member in self.members:
            if member.scheme != "http" or not member.hostname:
                raise ValueError(f"{member.geturl()!r} is no URL of a member; it is like http://127.0.0.1:7379")
        self.turn = random.randrange(len(self.members))

    def call(self, method, path, body=None, headers=None, within=15.0, poll=0.0):
        """Answers (status, body, the moment before the request that was answered was sent)."""
        began = Moment()
        while (left := within - began.elapsed()) > 0:
            member = self.members[self.turn % len(self.members)]
            sent = Moment()
            # One member that is silent may not take all the time that there is for asking others.
            try:
                self.who = self._read_who()
            except ValueError:
                pass  # Whoever changes it may be at it; the token that is known may be good still.
            with_who = {**(headers or {}), **self.who}
            answer = self._try(member, method, path, body, with_who, min(left, poll + 2.0))
            if answer is not None:
                status, text = answer
                if status >= 400:
                    raise Refused(status, text)
                return status, text, sent
            self.turn += 1
            time.sleep(min(0.1, max(0.0, within - began.elapsed())))
        raise Unreachable(f"no member of {', '.join(member.geturl() for member in self.members)} answers")

    def _read_who(self):
        """The header that says who asks."""
        if not self.token_file:
            return {}
        try:
            with open(self.token_file, encoding="ascii") as file:
                token = file.read().strip()
        except (OSError, ValueError) as error:
            raise ValueError(f"the token file {self.token_file!r} cannot be read: {error}") from error
        if not token or not token.isprintable() or " " in token:
            raise ValueError(f"there is no token in {self.token_file!r}")
        return {"Authorization": f"Bearer {token}"}

    @staticmethod
    def _try(member, method, path, body, headers, timeout):
        connection = http.client.HTTPConnection(member.hostname, member.port or 80, timeout=timeout)
        try:
            if body is not None:
                headers = {**headers, "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status in BUSY:
                return None
            return answer.status, json.loads(text) if text else {}
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()


class Lock:
    """A lock on a lease of its own. `remaining` is what may be believed; nothing revives a lock that was lost."""

    def __init__(self, client, name, ttl_ms=15000):
        self.client = client
        self.name = name
        self.path = "/v1/locks/" + urllib.parse.quote(name, safe="")
        self.ttl = ttl_ms / 1000
        self.fence = None
        self.lost = None
        # A moment and the seconds from it on, always replaced as one: two threads look at it.
        self._belief = None
        lease = {"ttl_ms": ttl_ms, "name": socket.gethostname()}
        # However often this is asked, the key makes it one lease.
        key = {"Idempotency-Key": str(uuid.uuid4())}
        _, granted, _ = client.call("POST", "/v1/leases", lease, key)
        self.lease = granted["lease"]

    def acquire(self, wait_ms):
        """Waits for the lock in the queue; a cluster that is away for less than the TTL takes the place from nobody."""
        poll_ms = min(wait_ms, int(self.ttl * 1000 / 3), 5000)
        while True:
            status, answer, sent = self._ask(wait_ms, poll_ms, self.ttl + poll_ms / 1000)
            if status == 200:
                self.fence = answer["fence"]
                self._believe(sent, answer["remaining_ms"])
                # An answer that was long on its way leaves little to believe: asking again renews.
                if self.remaining() > self.ttl / 2:
                    return self.fence

    def keep(self, stop):
        """Renews every third of the TTL until it is told to stop, or the lock is lost.

        For a thread of its own: no answer, however slow, may keep anybody from seeing the deadline pass.
        """
        pause = self.ttl / 3
        while not stop.wait(pause) and not self.lost and self.remaining() > 0:
            try:
                pause = self.ttl / 3 if self.renew() else 0.1
            except Refused:
                # 401, 403, 429: a right may be given back before the deadline, and members slow down an address that asks
                # more often than this by what they do not know.
                pause = self.ttl / 10

    def renew(self):
        """Asks for the lock again, which renews its lease. Answers whether that was confirmed.

        Raises `Refused` where a member refuses in a way that says nothing of the lock.
        """
        try:
            # Short, so that another member is asked in time where one is silent.
            _, answer, sent = self._ask(0, 0, self.ttl / 6)
        except Unreachable:
            return False
        except Refused as refused:
            if refused.status in (404, 410):
                self.lost = "its lease has ended"
                self._belief = None
            elif refused.status == 409:
                self.lost = "it was broken"
            else:
                raise
            return False
        if answer["fence"] != self.fence:
            # Nobody waited when somebody broke the hold, and this has taken a new one, which ends with the lease.
            self.lost = "it was broken"
            return False
        # What was lost while the answer was on its way stays lost.
        if self.remaining() > 0:
            self._believe(sent, answer["remaining_ms"])
        return True

    def remaining(self):
        """For how many seconds the lock may still be believed in."""
        belief = self._belief
        if belief is None:
            return 0.0
        sent, believed = belief
        return max(0.0, believed - sent.elapsed())

    def abandon(self):
        """Leaves the lock to its lease: it is neither renewed nor given back."""
        self._belief = None
        self.lease = None

    def release(self):
        """Gives the lock back. The fence says which hold is meant: a late retry can never free a later one."""
        self._belief = None
        if self.lease is None:
            return
        query = {"lease": self.lease}
        if self.fence is not None:
            query["fence"] = self.fence
        for path in (f"{self.path}?{urllib.parse.urlencode(query)}", f"/v1/leases/{self.lease}"):
            try:
                self.client.call("DELETE", path, within=5.0)
            except (Refused, Unreachable):
                pass  # It was given back before, or ends with its lease.

    def _ask(self, wait_ms, poll_ms, within):
        body = {"lease": self.lease, "wait_ms": wait_ms, "poll_ms": poll_ms}
        return self.client.call("POST", self.path, body, within=within, poll=poll_ms / 1000)

    def _believe(self, sent, remaining_ms):
        # The contract, section 1: 2 % for two clocks of which each may differ by 1 % from real time, and 50 ms.
        believed = remaining_ms * 0.98 / 1000 - 0.05
        if believed - sent.elapsed() > self.remaining():
            self._belief = sent, believed


def works_on(group):
    """Whether something of a process group still works.

    Not asked by a signal, which does not reach what runs as another user, and reaches what has ended but was not waited
    for.
    """
    for process in os.listdir("/proc"):
        if not process.isdigit():
            continue
        try:
            with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
                # Behind the name: the state, the parent and the group.
                state, _, its_group = file.read().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # It has ended meanwhile.
        if int(its_group) == group and state not in "ZX":
            return True
    return False


def run(lock, command):
    """Runs a command while the lock is held. Answers its exit code; `Lost` where it was ended because the lock was."""
    environment = dict(os.environ, TENURE_LOCK=lock.name, TENURE_FENCE=str(lock.fence), TENURE_LEASE=lock.lease)
    # From here on signals are the command's.
    passed_on = []
    for number_of in ENDING:
        signal.signal(number_of, lambda number, _: passed_on.append(number))
    # A process group of its own: what the command has started ends with it.
    job = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, process_group=0)

    def end_all(number):
        try:
            os.killpg(job.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # What may not be ended is seen by `works_on`.

    # A fifth of the TTL is for the command to end after TERM, and what is left after KILL for the system to do it.
    grace, last = lock.ttl / 5, lock.ttl / 20
    told = killed = in_danger = False
    stop = threading.Event()
    threading.Thread(target=lock.keep, args=(stop,), daemon=True).start()
    try:
        while job.poll() is None:
            while passed_on:
                end_all(passed_on.pop(0))
            if not lock.lost and lock.remaining() <= grace:
                lock.lost = "it could not be renewed"
            if lock.lost and not told:
                told = True
                say(f"the lock was lost, {lock.lost}: ending the command")
                end_all(signal.SIGTERM)
            if killed and not in_danger and lock.remaining() <= 0:
                in_danger = True
                say(f"DANGER: the command (process group {job.pid}) cannot be ended, and others may hold the lock")
            if lock.lost and lock.remaining() <= last:
                killed = True
                end_all(signal.SIGKILL)
            time.sleep(0.05)
    finally:
        stop.set()
        # What it left behind would work on without the lock.
        end_all(signal.SIGKILL)
        ending, patience = Moment(), max(1.0, lock.remaining())
        while works_on(job.pid):
            if ending.elapsed() >= patience:
                say(f"some of the command (process group {job.pid}) cannot be ended: the lock is left to its lease")
                lock.abandon()
                break
            time.sleep(0.05)
            end_all(signal.SIGKILL)
    if told:
        raise Lost(lock.lost)
    return job.returncode if job.returncode >= 0 else 128 - job.returncode


def say(what):
    """A note on stderr."""
    print(f"locked-job: {what}", file=sys.stderr)


def number(name, default):
    """A setting in milliseconds."""
    text = os.environ.get(name, default)
    if not text.isascii() or not text.isdigit() or len(text) > 8:
        raise ValueError(f"{name} is {text!r}; it is a whole number of milliseconds")
    return int(text)


def main():
    """The program."""
    if len(sys.argv) < 3:
        print("usage: locked_job.py LOCK COMMAND [ARGUMENT...]", file=sys.stderr)
        return 64

    def ended(signal_number, _):
        sys.exit(128 + signal_number)

    for number_of in ENDING:
        signal.signal(number_of, ended)
    lock = None
    try:
        members = os.environ.get("TENURE_ENDPOINTS", "http://127.0.0.1:7379").split(",")
        ttl_ms, wait_ms = number("TENURE_TTL_MS", "15000"), number("TENURE_WAIT_MS", "86400000")
        client = Client(members, os.environ.get("TENURE_TOKEN_FILE"))
        lock = Lock(client, sys.argv[1], ttl_ms)
        lock.acquire(wait_ms)
        return run(lock, sys.argv[2:])
    except ValueError as error:
        say(error)
        return 64
    except Refused as refused:
        say(f"the lock was not acquired: {refused}")
        return 75 if refused.status in (409, 410) else 1
    except Unreachable as error:
        say(error)
        return 69
    except OSError as error:
        say(f"the command cannot be run: {error}")
        return 127
    except Lost:
        return 76
    finally:
        if lock is not None:
            lock.release()


if __name__ == "__main__":
    sys.exit(main())
