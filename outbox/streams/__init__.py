"""The stream heads: which keys there are, with the version and digest of each one's last message.

Start with `heads`, which reads them, and `difference`, which compares them with what a store holds.
`stored_entries` reads an entry of a store without trusting it, `latest` reads the last message of a
key, and `own_rows` compares a service's own tables with the heads. Everything here only reads. The
heads are right at the moment of the query, and writers may change them right after it.
"""
