"""What a clinician does with a drafted report: change it, sign it, write it in every form. Knows reports and exports; no scene.

issuing   changes, signature and files, in one go
aside     the same in a process of its own, for programs with a window
child     that process
"""

from .issuing import FORMS, Issue, Issued, issue

__all__ = ["FORMS", "Issue", "Issued", "issue"]
