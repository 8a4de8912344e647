---- MODULE RevocationNotAwaited ----
(* A member that is told to revoke counts as having revoked. *)
EXTENDS MemberModel

AtOnceRevoked(owned, revoking) == TRUE
====
