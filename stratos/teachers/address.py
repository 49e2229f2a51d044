"""One endpoint of a hosted teacher: its connections and its errors."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from stratos.core.counted import counted
from stratos.core.errors import EndpointError, TeacherError, did_you_mean
from stratos.core.reasons import Reason
from stratos.teachers.base import Question
from stratos.teachers.call_budget import n_bytes
from stratos.teachers.endpoint import Connection, Endpoint, RedirectError, models
from stratos.teachers.openai_settings import OpenAISettings
from stratos.teachers.scheduler import Outcome
from stratos.teachers.words import NoConnection, OtherAddress, Redirected, Silent, WrongKey

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

_REACH_SECONDS = 10.0


class Address:
    """A base URL of a teacher; connects at the first use, and again after `close`.

    Args:
        teacher: whose key, model and settings are sent there.
        url: up to and with the version.
    """

    def __init__(self, teacher: OpenAISettings, url: str) -> None:
        self.teacher, self.url = teacher, url
        self.shutdown_date: str | None = None
        """Day from which the model ends, as the list of models has it: "" for none that is
        announced, None where the list does not say."""

    def send(self, question: Question, done: Callable[[Outcome], None]) -> Callable[[], None]:
        """Start one try; `done` is called from the endpoint's thread. Return what cancels it."""
        return self._endpoint.send(self.teacher.request(question), question, done)

    def look(self, found: Callable[[], None]) -> None:
        """Call `found`, from the endpoint's thread, if its list of models proves key and model."""
        self._endpoint.look_for(self.teacher.model, bool(self.teacher.api_key_env), found)

    def explain(self, error: Exception, question: Question, n_tries: int) -> TeacherError:
        """Return an error in the user's words; an `EndpointError` if another place may do better.

        Args:
            error: as the client raised it.
            question: that was asked.
            n_tries: how often.
        """
        import openai

        kind: type[TeacherError] = EndpointError
        if isinstance(error, RedirectError):
            text = str(Redirected(self.url, error.target))
        elif isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            text = str(self._wrong_key())
        elif isinstance(error, openai.NotFoundError) or self._is_unknown_model(error):
            text = self._no_model()
        elif isinstance(error, openai.APIStatusError) and error.status_code in (400, 413, 422):
            kind = TeacherError
            text = (
                f"{self.url} refused a prompt of {n_bytes(question.chat):,} bytes with an answer "
                f"of up to {counted(question.max_tokens, 'token')}, that of {question.about} "
                f"({_say(error)}). Check that they fit the model's context, and "
                "teacher.token_limit_field and teacher.temperature."
            )
        elif getattr(error, "code", None) == "insufficient_quota":
            text = (
                f"the account at {self.url} has no credit left ({_say(error)}). What was answered "
                "is kept: top it up and give the same command again, or choose another teacher."
            )
        else:
            n_others = len(self.teacher.base_urls) - 1
            too = f" ({counted(n_others, 'other endpoint')} neither)" if n_others else ""
            text = (
                f"{self.url} gave no answer after {counted(n_tries, 'try', 'tries')}{too} "
                f"({_say(error)}). What was answered is kept: give the same command again, with a "
                "smaller teacher.concurrency if it is overloaded."
            )
        told = kind(f"Teacher {self.teacher.name}: {text}")
        told.__cause__ = error
        return told

    def unreachable(self) -> Reason | None:
        """Return why it cannot be asked and what to type, or None. Asks it once, for its models."""
        import openai

        try:
            self._read_shutdown_date(self.call(models, _REACH_SECONDS))
        except (openai.AuthenticationError, openai.PermissionDeniedError):
            return self._wrong_key()
        except RedirectError as error:
            return Redirected(self.url, error.target)
        except TimeoutError:
            return Silent(self.url, _REACH_SECONDS)
        except openai.APIConnectionError:
            return NoConnection(self.url)
        except (openai.OpenAIError, ValueError, TypeError, KeyError):
            return self._without_version()  # an endpoint need not list its models
        return None

    def _without_version(self) -> OtherAddress | None:
        """Return that the API answers below /v1; None where it does not, or a path was given."""
        if urlsplit(self.url).path.strip("/"):
            return None
        below = Address(self.teacher, f"{self.url.rstrip('/')}/v1")
        try:
            if not below._models():
                return None
        finally:
            below.close()
        return OtherAddress(self.url, below.url)

    def call(self, make: Callable[[AsyncOpenAI], Awaitable[T]], seconds: float) -> T:
        """Make a call and wait for it; see `Connection.call`."""
        return self._connection.call(make, seconds)

    def _read_shutdown_date(self, listed: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep what the list says of the model's end; an endpoint may say anything, or nothing."""
        said = listed.get(self.teacher.model, {})
        if "shutdown_date" not in said:
            return
        found = str(said["shutdown_date"] or "")
        with suppress(ValueError):  # a date in another form is none
            if found:
                datetime.date.fromisoformat(found)
            self.shutdown_date = found

    def close(self) -> None:
        """Close the connections."""
        self.__dict__.pop("_endpoint", None)
        if (connection := self.__dict__.pop("_connection", None)) is not None:
            connection.close()

    @cached_property
    def _connection(self) -> Connection:
        return Connection(self.teacher.key(), self.url, self.teacher.timeout_s)

    @cached_property
    def _endpoint(self) -> Endpoint:
        return Endpoint(self._connection, self.teacher.timeout_s)

    def _is_unknown_model(self, error: Exception) -> bool:
        """Tell whether a request was refused for its model, by endpoints that say 400 then."""
        import openai

        if not isinstance(error, openai.BadRequestError):
            return False
        said = str(error).lower()
        if "model" not in said and said != "error code: 400":  # it speaks of something else
            return False
        known = self._models()
        return bool(known) and self.teacher.model not in known

    def _wrong_key(self) -> WrongKey:
        return WrongKey(self.url, self.teacher.api_key_env)

    def _no_model(self) -> str:
        known = self._models()
        if not known and (other := self._without_version()):
            return str(other)
        if self.teacher.model in known:
            return (
                f"{self.url} has the model {self.teacher.model}, and answers 404 to the request. "
                "Check teacher.base_url (as a rule it ends in /v1), and for teacher.batch=true or "
                "batch prices that it has a batch API."
            )
        hint = did_you_mean(self.teacher.model, known)
        if known and not hint:
            hint = f" It has {', '.join(sorted(known)[:5])}."
        return (
            f"{self.url} has no model {self.teacher.model}.{hint} Choose one with teacher.model=…"
        )

    def _models(self) -> list[str]:
        import openai

        # Where there is no list, there is nothing to suggest.
        with suppress(openai.OpenAIError, TimeoutError, ValueError, TypeError, KeyError):
            return sorted(self.call(models, _REACH_SECONDS))
        return []


def _say(error: Exception) -> str:
    """Return an error in one line, without the request that may quote a prompt."""
    status = getattr(error, "status_code", None)
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return text if status is None or str(status) in text else f"HTTP {status}: {text}"
