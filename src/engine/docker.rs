//! The Docker engine, through bollard. The only file that names bollard.
