"""What the process finds around it: variables, `.env`, the form of addresses, and its operator.

Start with `variables`, from whose class all settings inherit; `postgres_address` and
`bootstrap_servers` check addresses, and `operator` names who runs a command. A variable with our
prefix that no program reads is refused, and so is an address that breaks its rule; such an error
names the variable and the rule, and never the value, which may hold a password. Nothing here opens
a connection or declares a setting, so an address that passes may still lead nowhere.
"""
