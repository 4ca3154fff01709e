//! The files of a member: what survives a crash, what is found when it is damaged, and how a snapshot travels.

mod crash;
mod damage;
mod directory;
mod disk;
mod faults;
mod fire;
mod life;
mod model;
mod reclaiming;
mod reclaiming_log;
mod room;
mod rot;
mod snapshots;
mod transit;
