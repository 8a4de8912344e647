---- MODULE DeletedTopicOwed ----
(* A deleted topic leaves its enrolments: the one made again under its name gets a marker that belongs to nothing in it (X2). *)
EXTENDS MC

StillEnrolled(row, p) == row
====
