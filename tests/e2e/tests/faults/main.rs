//! Real brokers in front of a spoilt Azure, without a cluster: the fault table, what heals by itself, how often Azure is
//! asked, and replicas that come and go.

mod answers;
mod churn;
mod clocks;
mod clouds;
mod egress;
mod forged;
mod keys;
mod leaks;
mod metadata_service;
mod methods;
mod play;
mod replicas;
mod row;
mod rows;
mod scenarios;
mod single_flight;
mod throttling;
