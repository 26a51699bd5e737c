"""PySide6 objects with PythonQt manners, for the code under test only. Knows Qt; nothing of Slicer.

The differences that matter to a scripted module (measured on the real thing):

=========================  ============================  ==================================
                           PySide6                       PythonQt, and here
=========================  ============================  ==================================
Qt property                `button.text()`               `button.text`, `button.text = …`
`name`                     (none)                        the object name
unknown attribute, set     allowed                       AttributeError on C++ objects
lists                      list                          tuple
connect                    `b.clicked.connect(f)`        also `b.connect("clicked(bool)", f)`
exception in a slot        printed                       printed, swallowed; here collected
destroyed object           RuntimeError                  ValueError
unknown signal             AttributeError                printed, returns False; **here an error**
=========================  ============================  ==================================

`install` patches attribute access once for all of QObject, which holds for objects made in C++ as well.
The patch looks at who asks: PySide6, VTK and this package see plain PySide6.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from contextlib import suppress

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets

EXEMPT_PACKAGES = frozenset({"PySide6", "shiboken6", "shibokensupport", "vtkmodules", "host"})
"""Top-level packages that keep PySide6's own manners."""

CPP_PACKAGES = frozenset({"PySide6", "host"})
"""Classes from here play C++ classes: nobody may add attributes to their objects."""

_plain_get = QtCore.QObject.__getattribute__
_exempt_names: dict[str, bool] = {}
_problems = None


def install(problems) -> None:
    """Patch attribute access of every Qt class; `problems` collects what slots raise."""
    global _problems
    _problems = problems
    QtCore.QObject.__getattribute__ = _get
    for module in (QtCore, QtGui, QtWidgets):
        for name in dir(module):  # not vars(): PySide6 makes classes when they are first asked for
            class_ = getattr(module, name)
            if not (inspect.isclass(class_) and issubclass(class_, QtCore.QObject)):
                continue
            if class_ is QtCore.QObject or "__setattr__" in class_.__dict__:
                class_.__setattr__ = _set


def _is_exempt(frame) -> bool:
    name = frame.f_globals.get("__name__", "")
    answer = _exempt_names.get(name)
    if answer is None:
        answer = _exempt_names[name] = name.partition(".")[0] in EXEMPT_PACKAGES
    return answer


def is_cpp_class(class_: type) -> bool:
    """Does the class come from Qt, or stand for one that does?"""
    return class_.__module__.partition(".")[0] in CPP_PACKAGES


# -- reading ---------------------------------------------------------------------------------------


def _get(self, name: str):
    try:
        caller = sys._getframe(1)
    except ValueError:  # Qt itself, while Python ends
        return _plain_get(self, name)
    if name.startswith("__") or _is_exempt(caller):
        return _plain_get(self, name)
    if not shiboken6.isValid(self):
        raise ValueError(f"Trying to read '{name}' of a destroyed {type(self).__name__} object")
    special = _SPECIAL.get(name)
    if special is not None:
        return special(self)
    if not _overridden_in_python(self, name) and _meta_property(self, name) is not None:
        return _as_tuple(_plain_get(self, "property")(name))
    try:
        value = _plain_get(self, name)
    except AttributeError:
        if name.encode() in [bytes(n) for n in _plain_get(self, "dynamicPropertyNames")()]:
            return _as_tuple(_plain_get(self, "property")(name))
        raise
    if isinstance(value, QtCore.SignalInstance):
        return BoundSignal(self, name, value)
    if inspect.isbuiltin(value) or (inspect.ismethod(value) and is_cpp_class(type(self))):
        return BoundMethod(value)
    return value


def _overridden_in_python(self, name: str) -> bool:
    """Is the name an attribute of the object, or of a class that the module under test wrote?"""
    if name in (getattr(self, "__dict__", None) or ()):
        return True
    return any(name in c.__dict__ for c in type(self).__mro__ if not is_cpp_class(c) and c is not object)


def _meta_property(self, name: str) -> QtCore.QMetaProperty | None:
    meta = _plain_get(self, "metaObject")()
    index = meta.indexOfProperty(name)
    return meta.property(index) if index >= 0 else None


def _as_tuple(value):
    return tuple(value) if isinstance(value, list) else value


def _find_children(self, type_=QtCore.QObject, name: str = "") -> tuple:
    wanted = type_ if isinstance(type_, str) else ""
    found = _plain_get(self, "findChildren")(QtCore.QObject if wanted else type_)
    return tuple(
        c for c in found if (not wanted or inherits(c, wanted)) and (not name or _plain_get(c, "objectName")() == name)
    )


def inherits(thing: QtCore.QObject, class_name: str) -> bool:
    """`QObject::inherits`, for our stand-in classes too."""
    return bool(_plain_get(thing, "inherits")(class_name)) or any(c.__name__ == class_name for c in type(thing).__mro__)


def _class_name(self) -> str:
    if type(self).__module__.startswith("PySide6"):
        return _plain_get(self, "metaObject")().className()
    return type(self).__name__


_SPECIAL: dict[str, Callable] = {
    "name": lambda self: _plain_get(self, "objectName")(),
    "connect": lambda self: lambda *arguments: _connect_by_signature(self, *arguments),
    "disconnect": lambda self: lambda *arguments: _disconnect_by_signature(self, *arguments),
    "className": lambda self: lambda: _class_name(self),
    "inherits": lambda self: lambda class_name: inherits(self, class_name),
    "delete": lambda self: lambda: shiboken6.delete(self),
    "findChild": lambda self: lambda type_=QtCore.QObject, name="": next(iter(_find_children(self, type_, name)), None),
    "findChildren": lambda self: lambda type_=QtCore.QObject, name="": _find_children(self, type_, name),
    "exec_": lambda self: _plain_get(self, "exec"),
}


class BoundMethod:
    """A method of a C++ object whose lists come back as tuples."""

    __slots__ = ("_method",)

    def __init__(self, method: Callable):
        self._method = method

    def __call__(self, *arguments, **named):
        return _as_tuple(self._method(*arguments, **named))

    def __eq__(self, other) -> bool:
        return isinstance(other, BoundMethod) and self._method == other._method

    def __hash__(self) -> int:
        return hash(self._method)

    def __repr__(self) -> str:
        return repr(self._method)


# -- writing ---------------------------------------------------------------------------------------


def _set(self, name: str, value) -> None:
    if name.startswith("__") or _is_exempt(sys._getframe(1)):
        return _plain_set(self, name, value)
    if not shiboken6.isValid(self):
        raise ValueError(f"Trying to set '{name}' of a destroyed {type(self).__name__} object")
    if name == "name":
        return _plain_get(self, "setObjectName")(value)
    meta = _meta_property(self, name)
    if meta is not None:
        return _write_property(self, meta, value)
    if is_cpp_class(type(self)):
        raise AttributeError(
            f"Attribute '{name}' does not exist in {type(self).__name__} and creating new attributes on C++ objects "
            "is not allowed"
        )
    return _plain_set(self, name, value)


def _write_property(self, meta: QtCore.QMetaProperty, value) -> None:
    name, kind = meta.name(), meta.typeName()
    if not meta.isWritable():
        raise AttributeError(f"Property '{name}' of {type(self).__name__} is read-only")
    if kind == "QString":
        value = str(value)  # PythonQt converts anything, even None
    elif kind in _NUMBERS and not _is_number(value):
        raise AttributeError(f"Property '{name}' of type '{kind}' does not accept {value!r} ({type(value).__name__})")
    elif isinstance(value, tuple):
        value = list(value)
    if not meta.write(self, value):
        raise AttributeError(f"Property '{name}' of type '{kind}' does not accept {value!r} ({type(value).__name__})")


_NUMBERS = ("int", "uint", "double", "float", "bool")


def _is_number(value) -> bool:
    return isinstance(value, (bool, int, float)) or (hasattr(value, "__index__") and not isinstance(value, str))


def _plain_set(self, name: str, value) -> None:
    # The patch replaces PySide6's own attribute setter, which is the one that knows what a Property is.
    for class_ in type(self).__mro__:
        attribute = class_.__dict__.get(name)
        if isinstance(attribute, QtCore.Property):
            return attribute.fset(self, value)
        if attribute is not None:
            break
    try:
        object.__setattr__(self, name, value)
    except TypeError:
        shiboken6.Object.__setattr__(self, name, value)


# -- signals ---------------------------------------------------------------------------------------

_slots: dict[tuple[int, str, object], list] = {}
"""(address of sender, signal, callable) → what Qt was given, so that it can be disconnected again."""


class Slot:
    """A Python callable as PythonQt calls it: with as many arguments as it takes; what it raises is collected."""

    def __init__(self, function: Callable, arguments: int | None = None):
        self._function = function
        self._takes = _accepted_arguments(function)
        if arguments is not None:
            self._takes = min(self._takes, arguments)

    def __call__(self, *arguments) -> None:
        try:
            self._function(*arguments[: self._takes])
        except Exception as error:
            _problems.add_exception(f"slot {_describe(self._function)}", error)


def _accepted_arguments(function: Callable) -> int:
    """Return how many positional arguments the function takes; any number if that is not known."""
    if isinstance(function, BoundMethod):
        return _cpp_slot_arguments(function)
    try:
        parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):
        return 99
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 99
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _cpp_slot_arguments(method: BoundMethod) -> int:
    plain = method._method
    if not inspect.isbuiltin(plain):
        return _accepted_arguments(plain)
    meta = _plain_get(plain.__self__, "metaObject")()
    counts = [
        meta.method(i).parameterCount()
        for i in range(meta.methodCount())
        if bytes(meta.method(i).name()).decode() == plain.__name__
    ]
    return max(counts, default=99)


def _describe(function: Callable) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


class BoundSignal:
    """`button.clicked` as the code under test sees it: connect, disconnect, emit, or call."""

    __slots__ = ("_name", "_sender", "_signal")

    def __init__(self, sender: QtCore.QObject, name: str, signal: QtCore.SignalInstance):
        self._sender, self._name, self._signal = sender, name, signal

    def connect(self, function: Callable) -> bool:
        return _connect(self._sender, self._name, self._signal, function)

    def disconnect(self, function: Callable | None = None) -> bool:
        return _disconnect(self._sender, self._name, self._signal, function)

    def emit(self, *arguments) -> None:
        self._signal.emit(*arguments)

    __call__ = emit


def find_signal(sender: QtCore.QObject, signature: str) -> tuple[QtCore.SignalInstance, int] | None:
    """The signal with exactly this C++ signature and its number of arguments, or None.

    Stand-in widgets carry Python objects in their signals; their class attribute `cpp_signals` maps the
    signatures of the real widget to them.
    """
    normalized = bytes(QtCore.QMetaObject.normalizedSignature(signature)).decode()
    name, _, types = normalized.partition("(")
    types = types.rstrip(")")
    count = len(types.split(",")) if types else 0
    for class_ in type(sender).__mro__:
        alias = class_.__dict__.get("cpp_signals", {}).get(normalized)
        if alias is not None:
            return _plain_get(sender, alias), count
    meta = _plain_get(sender, "metaObject")()
    index = meta.indexOfSignal(normalized)
    if index < 0 or "PyObject" in normalized:
        return None
    signal = _plain_get(sender, name)
    if types:
        with suppress(IndexError, KeyError, TypeError):  # not overloaded: there is only the one
            signal = signal[types]
    return signal, count


def _connect_by_signature(sender, signature, *receiver) -> bool:
    if not isinstance(signature, str) or len(receiver) not in (1, 2):
        raise ValueError(f"Called connect with wrong arguments: {(signature, *receiver)!r}")
    found = find_signal(sender, signature)
    if found is None:
        message = f"Signal '{signature}' does not exist on {type(sender).__name__}"
        _problems.add(f"connect: {message}")
        raise ValueError(message)
    signal, count = found
    return _connect(sender, _normalized(signature), signal, _receiver_function(receiver), count)


def _disconnect_by_signature(sender, signature, *receiver) -> bool:
    found = find_signal(sender, signature)
    if found is None:
        raise ValueError(f"Signal '{signature}' does not exist on {type(sender).__name__}")
    return _disconnect(sender, _normalized(signature), found[0], _receiver_function(receiver) if receiver else None)


def _normalized(signature: str) -> str:
    return bytes(QtCore.QMetaObject.normalizedSignature(signature)).decode()


def _receiver_function(receiver: tuple) -> Callable:
    if len(receiver) == 1:
        return receiver[0]
    target, slot = receiver
    return BoundMethod(_plain_get(target, slot.partition("(")[0]))


def _connect(sender, name: str, signal, function: Callable, arguments: int | None = None) -> bool:
    if not callable(function):
        raise ValueError(f"A slot must be callable, not {function!r}")
    slot = Slot(function, arguments)
    address = shiboken6.getCppPointer(sender)[0]
    signal.connect(slot)
    if (address, "", None) not in _slots:
        _slots[address, "", None] = []
        _plain_get(sender, "destroyed").connect(lambda *_: _forget(address))
    _slots.setdefault((address, name, function), []).append((signal, slot))
    return True


def _disconnect(sender, name: str, signal, function: Callable | None) -> bool:
    address = shiboken6.getCppPointer(sender)[0]
    keys = [k for k in _slots if k[0] == address and k[1] == name and (function is None or k[2] == function)]
    for key in keys:
        for connected, slot in _slots.pop(key):
            connected.disconnect(slot)
    return bool(keys)


def _forget(address: int) -> None:
    for key in [k for k in _slots if k[0] == address]:
        del _slots[key]
