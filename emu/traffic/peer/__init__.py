"""The world outside of the host: wires, iSCSI targets, bulk servers, and the loop that ties them to it."""
